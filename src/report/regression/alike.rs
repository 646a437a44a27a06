//! In what two runs of the same lanes are not alike: why no lane is in both, and where one has more windows or items than the
//! other. Judges no figure.

use super::Run;
use crate::scored;

/// Why no lane is in both runs: lanes of one name differ in model or arithmetic, or there is no such name.
pub fn why_no_lane(old: &Run<'_>, new: &Run<'_>) -> String {
    let both = old.gathered.lanes.iter().find_map(|a| {
        let b = new.gathered.lanes.iter().find(|b| b.key.lane == a.key.lane)?;
        Some((&a.key, &b.key))
    });
    let Some((a, b)) = both else {
        let names = |run: &Run<'_>| run.labels.join(", ");
        return format!("no lane is in both: the old run has {}, the new one {}", names(old), names(new));
    };
    let parts = [("model", &a.model, &b.model), ("arithmetic", &a.arithmetic, &b.arithmetic), ("device", &a.device, &b.device)];
    let differs = parts.into_iter().filter(|(_, a, b)| a != b);
    let differs: Vec<String> = differs.map(|(what, a, b)| format!("{what} (old {a}, new {b})")).collect();
    format!("no lane is in both: those of the same name differ in {}", differs.join(" and "))
}

/// Texts and tasks of which the runs have not the same windows and items, each said once.
pub fn uneven(old: &Run<'_>, new: &Run<'_>, pairs: &[(usize, usize)]) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    let mut say = |what: String, unit: &str, old: usize, new: usize, both: usize| {
        let note = format!(
            "{what}: the old run has {old} {unit}, the new one {new}; each value is over the run's own, each change over the \
             {both} that both have."
        );
        if (old, new) != (both, both) && !notes.contains(&note) {
            notes.push(note);
        }
    };
    for (i, j) in pairs {
        let (a, b) = (&old.gathered.lanes[*i], &new.gathered.lanes[*j]);
        for (own, others) in [(&a.windows, &b.windows), (&a.rolling, &b.rolling)] {
            for (key, own) in own.by_text() {
                let Some(others) = others.of(key) else { continue };
                let name = new.gathered.texts.iter().find(|text| text.key() == *key).map_or(key.sha256, |text| &text.name);
                let both = scored::pairs(own, others).len();
                say(format!("text {name}, {}", key.protocol), "windows", own.len(), others.len(), both);
            }
        }
        for (task, own) in &a.items {
            let Some(others) = b.items.get(task) else { continue };
            let both = own.keys().filter(|item| others.contains_key(item)).count();
            say(format!("task {task}"), "items", own.len(), others.len(), both);
        }
    }
    notes
}
