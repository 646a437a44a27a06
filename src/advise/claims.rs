//! Statements in numbers, held against forecasts: holds, fails, or in part. The statements are data (`configs/claims/*.toml`);
//! what answers them is an [`Oracle`], so that this file computes nothing about machines.
//!
//! A range that is claimed holds where the forecast lies in it, fails where even the forecast's 80 % range does not reach it, and
//! holds in part in between. A statement about several files is as its files agree.

use std::path::Path;

use bitworth_quant::{Error, Result};
use serde::{Deserialize, Serialize};

use super::choice::{Choice, FitVerdict};
use super::rank::small;
use super::speed::Forecast;

/// The claims that come with the program: name and text. A test compares this with the folder.
pub const CLAIMS: &[(&str, &str)] = &[("m2-ultra-vs-ryzen-395", include_str!("../../configs/claims/m2-ultra-vs-ryzen-395.toml"))];

/// How a statement fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimVerdict {
    /// As stated.
    Holds,
    /// For some of what it speaks of, or at the edge.
    InPart,
    /// Not at all.
    Fails,
}

impl ClaimVerdict {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::InPart => "in part",
            Self::Fails => "fails",
        }
    }
}

/// A figure somebody measured, shown beside the verdict.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedFigure {
    /// In the statement's unit.
    pub value: f64,
    /// Of what.
    pub of: String,
    /// Where it stands.
    pub source: String,
}

/// What a statement says.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// Decoding speed within a range, tokens per second.
    Decode {
        /// Where.
        machine: String,
        /// From and to.
        range: [f64; 2],
    },
    /// Decoding speed of one machine over another's within a range.
    Ratio {
        /// The faster one.
        machine: String,
        /// The slower one.
        over: String,
        /// From and to.
        range: [f64; 2],
    },
    /// It fits into memory.
    Fits {
        /// Where.
        machine: String,
    },
    /// Memory that a model can use within a range, GiB.
    Usable {
        /// Of what.
        machine: String,
        /// From and to.
        range: [f64; 2],
    },
}

/// One claim.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// The claim as people say it.
    pub says: String,
    /// What it comes to in numbers.
    pub statement: Statement,
    /// The files it speaks of: model and recipe.
    pub files: Vec<(String, String)>,
    /// Whether one file is enough, or all are meant.
    pub any: bool,
    /// Context, tokens.
    pub context: u32,
    /// Measurements to show.
    pub published: Vec<PublishedFigure>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    claim: Vec<ClaimEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimEntry {
    says: String,
    kind: String,
    machine: String,
    over: Option<String>,
    range: Option<[f64; 2]>,
    #[serde(default)]
    models: Vec<String>,
    #[serde(default)]
    recipes: Vec<String>,
    #[serde(default)]
    any: bool,
    #[serde(default = "default_context")]
    context: u32,
    #[serde(default)]
    published: Vec<PublishedFigure>,
}

fn default_context() -> u32 {
    4096
}

/// The kinds of statements, as files write them.
const KINDS: [&str; 4] = ["decode", "ratio", "fits", "usable"];

/// The statements of a file, or without one those that come with the program.
///
/// # Errors
/// A file that cannot be read; as [`parse`].
pub fn load(file: Option<&Path>) -> Result<Vec<Claim>> {
    if let Some(file) = file {
        return parse(file, &std::fs::read_to_string(file).map_err(|e| Error::io(file, e))?);
    }
    let own = CLAIMS.iter().map(|(name, text)| parse(Path::new(&format!("configs/claims/{name}.toml")), text));
    Ok(own.collect::<Result<Vec<_>>>()?.concat())
}

/// Reads a file of claims; `path` is for messages.
///
/// # Errors
/// TOML that does not parse, an unknown kind or key, a missing or absurd figure: each with the file and the claim.
pub fn parse(path: &Path, text: &str) -> Result<Vec<Claim>> {
    let file: File = toml::from_str(text).map_err(|e| Error::file(path, e.to_string().trim_end()))?;
    if file.claim.is_empty() {
        return Err(Error::file(path, "has no [[claim]]"));
    }
    file.claim.into_iter().map(|row| row.claim(path)).collect()
}

impl ClaimEntry {
    fn claim(self, path: &Path) -> Result<Claim> {
        let says = self.says.clone();
        let wrong = |key: &str, what: String| Error::key(path, format!("claim {says:?}: {key}"), what);
        let range = || match self.range {
            Some(range @ [from, to]) if 0.0 <= from && from <= to && to <= 1e6 => Ok(range),
            Some([from, to]) => {
                Err(wrong("range", format!("[{from}, {to}] is no range of figures; give [from, to] with 0 <= from <= to")))
            }
            None => Err(wrong("range", format!("is missing; a claim of kind {} needs [from, to]", self.kind))),
        };
        let machine = self.machine.clone();
        let statement = match self.kind.as_str() {
            "decode" => Statement::Decode { machine, range: range()? },
            "ratio" => {
                let over = self.over.clone().ok_or_else(|| wrong("over", "is missing; name the slower machine".into()))?;
                Statement::Ratio { machine, over, range: range()? }
            }
            "fits" => Statement::Fits { machine },
            "usable" => Statement::Usable { machine, range: range()? },
            _ => return Err(wrong("kind", Error::unknown("kind", &self.kind, KINDS).to_string())),
        };
        let pairs = self.models.iter().flat_map(|model| self.recipes.iter().map(move |recipe| (model.clone(), recipe.clone())));
        let files: Vec<_> = pairs.collect();
        if files.is_empty() && !matches!(statement, Statement::Usable { .. }) {
            return Err(wrong("models", "models and recipes are missing; name at least one of each".into()));
        }
        if self.context == 0 || self.context > 1 << 24 {
            return Err(wrong("context", format!("{} is no number of tokens from 1 to 16777216", self.context)));
        }
        if let Some(odd) = self.published.iter().find(|p| !(p.value >= 0.0 && p.value <= 1e6)) {
            return Err(wrong("published", format!("{} is no figure from 0 to a million", odd.value)));
        }
        Ok(Claim { says: self.says, statement, files, any: self.any, context: self.context, published: self.published })
    }
}

/// Memory that models can use, on one platform of a machine, GiB.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Usable {
    /// The platform, or what its limit is called.
    pub platform: String,
    /// As it comes.
    pub gib: f64,
    /// With the limit raised, where there is one.
    pub raised_gib: Option<f64>,
}

/// What knows machines, models and speeds.
pub trait Oracle {
    /// A model under a recipe on a machine.
    ///
    /// # Errors
    /// A name that is not known.
    fn choice(&self, model: &str, recipe: &str, machine: &str, context: u32) -> Result<Choice>;

    /// What a machine's platforms let models use.
    ///
    /// # Errors
    /// A name that is not known.
    fn usable(&self, machine: &str) -> Result<Vec<Usable>>;
}

/// One figure behind a verdict.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// Of what: a file, a platform.
    pub of: String,
    /// How the statement fares there.
    pub verdict: ClaimVerdict,
    /// The figures, in words.
    pub figures: String,
}

/// A claim and how it fares.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Checked {
    /// The claim as people say it.
    pub says: String,
    /// How it fares.
    pub verdict: ClaimVerdict,
    /// Why.
    pub findings: Vec<Finding>,
    /// What was measured.
    pub published: Vec<PublishedFigure>,
}

/// Holds a claim against what `oracle` knows.
///
/// # Errors
/// A name in the claim that is not known.
pub fn check(claim: &Claim, oracle: &impl Oracle) -> Result<Checked> {
    let findings = match &claim.statement {
        Statement::Usable { machine, range } => {
            oracle.usable(machine)?.iter().map(|usable| usable_finding(usable, *range)).collect()
        }
        statement => {
            let finding = |(model, recipe): &(String, String)| {
                let on = |machine: &str| oracle.choice(model, recipe, machine, claim.context);
                match statement {
                    Statement::Decode { machine, range } => Ok(decode_finding(&on(machine)?, *range)),
                    Statement::Ratio { machine, over, range } => Ok(ratio_finding(&on(machine)?, &on(over)?, *range)),
                    Statement::Fits { machine } | Statement::Usable { machine, .. } => Ok(fit_finding(&on(machine)?)),
                }
            };
            claim.files.iter().map(finding).collect::<Result<Vec<_>>>()?
        }
    };
    let verdict = together(&findings, claim.any);
    Ok(Checked { says: claim.says.clone(), verdict, findings, published: claim.published.clone() })
}

/// One verdict from several: where one is enough, the best; else what they agree on.
fn together(findings: &[Finding], any: bool) -> ClaimVerdict {
    let all = |verdict| findings.iter().all(|f| f.verdict == verdict);
    if any && findings.iter().any(|f| f.verdict == ClaimVerdict::Holds) || all(ClaimVerdict::Holds) {
        ClaimVerdict::Holds
    } else if all(ClaimVerdict::Fails) {
        ClaimVerdict::Fails
    } else {
        ClaimVerdict::InPart
    }
}

/// A forecast against a claimed range.
fn within(forecast: &Forecast, [from, to]: [f64; 2]) -> ClaimVerdict {
    if (from..=to).contains(&forecast.tps) {
        ClaimVerdict::Holds
    } else if forecast.high < from || forecast.low > to {
        ClaimVerdict::Fails
    } else {
        ClaimVerdict::InPart
    }
}

fn decode_finding(choice: &Choice, range: [f64; 2]) -> Finding {
    let of = format!("{} on {}", choice.title(), choice.machine);
    if choice.room.fit == FitVerdict::DoesNotFit {
        return Finding { of, verdict: ClaimVerdict::Fails, figures: format!("does not fit: {}", memory(choice)) };
    }
    let figures = format!("forecast {}, claimed {} to {}", super::rank::speed(&choice.decode), small(range[0]), small(range[1]));
    Finding { of, verdict: within(&choice.decode, range), figures }
}

fn ratio_finding(one: &Choice, other: &Choice, range: [f64; 2]) -> Finding {
    let of = one.title();
    if let Some(out) = [one, other].into_iter().find(|c| c.room.fit == FitVerdict::DoesNotFit) {
        return Finding {
            of,
            verdict: ClaimVerdict::Fails,
            figures: format!("does not fit on {}: {}", out.machine, memory(out)),
        };
    }
    let ratio = ratio(&one.decode, &other.decode);
    let figures = format!(
        "forecast {} times ({} to {}): {} on {}, {} on {}; claimed {} to {}",
        small(ratio.tps),
        small(ratio.low),
        small(ratio.high),
        super::rank::speed(&one.decode),
        one.machine,
        super::rank::speed(&other.decode),
        other.machine,
        small(range[0]),
        small(range[1])
    );
    Finding { of, verdict: within(&ratio, range), figures }
}

/// The ratio of two forecasts whose errors are independent: logarithms of the ends add as squares.
fn ratio(one: &Forecast, other: &Forecast) -> Forecast {
    let tps = one.tps / other.tps;
    let both = |a: f64, b: f64| a.ln().hypot(b.ln()).exp();
    Forecast {
        tps,
        low: tps / both(one.tps / one.low, other.high / other.tps),
        high: tps * both(one.high / one.tps, other.tps / other.low),
    }
}

fn fit_finding(choice: &Choice) -> Finding {
    let (verdict, what) = match choice.room.fit {
        FitVerdict::Fits => (ClaimVerdict::Holds, "fits"),
        FitVerdict::FitsRaised => (ClaimVerdict::InPart, "fits with the limit raised"),
        FitVerdict::DoesNotFit => (ClaimVerdict::Fails, "does not fit"),
    };
    Finding { of: format!("{} on {}", choice.title(), choice.machine), verdict, figures: format!("{what}: {}", memory(choice)) }
}

fn memory(choice: &Choice) -> String {
    let gib = |bytes: u64| small(bytes as f64 / (1u64 << 30) as f64);
    let raised = choice.room.raised.map_or(String::new(), |raised| format!(", {} with the limit raised", gib(raised)));
    format!("needs {} GiB of {} usable{raised}", gib(choice.room.needed), gib(choice.room.usable))
}

fn usable_finding(usable: &Usable, range: [f64; 2]) -> Finding {
    let [from, to] = range;
    let raised = usable.raised_gib.unwrap_or(usable.gib);
    // Whether it is said of the machine as it comes; raising a limit is a condition that the claim does not name.
    let verdict = match usable.gib {
        gib if (from..=to).contains(&gib) => ClaimVerdict::Holds,
        gib if raised < from || gib > to => ClaimVerdict::Fails,
        _ => ClaimVerdict::InPart,
    };
    let more = usable.raised_gib.map_or(String::new(), |raised| format!(", {} with the limit raised", small(raised)));
    let figures = format!("{} GiB as it comes{more}; claimed {} to {}", small(usable.gib), small(from), small(to));
    Finding { of: usable.platform.clone(), verdict, figures }
}

/// The statements with what follows, for a terminal.
pub fn text(checked: &[Checked]) -> String {
    let mut text = String::new();
    for claim in checked {
        text += &format!("{:7}  {}\n", claim.verdict.name(), claim.says);
        for finding in &claim.findings {
            text += &format!("           {}: {}\n", finding.of, finding.figures);
        }
        for published in &claim.published {
            let value = small(published.value);
            text += &format!("           published: {value} ({}) {}\n", published.of, published.source);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::sample::{choice, too_large};

    /// Knows one model of which `f16` is too large, at 10 tokens a second on `a` and 4 on `b`.
    struct Fake;

    impl Oracle for Fake {
        fn choice(&self, model: &str, recipe: &str, machine: &str, _: u32) -> Result<Choice> {
            if model != "m" {
                return Err(Error::unknown("model", model, ["m"]));
            }
            let choice = choice(machine, model, recipe, if machine == "a" { 10.0 } else { 4.0 }, 0.0, None);
            Ok(if recipe == "f16" { too_large(choice, 0) } else { choice })
        }

        fn usable(&self, _: &str) -> Result<Vec<Usable>> {
            Ok(vec![
                Usable { platform: "x".into(), gib: 96.0, raised_gib: None },
                Usable { platform: "y".into(), gib: 62.0, raised_gib: Some(108.0) },
            ])
        }
    }

    #[track_caller]
    fn check_claim(rest: &str, expected: ClaimVerdict) -> Checked {
        let claims = parse(Path::new("c.toml"), &format!("[[claim]]\nsays = 's'\n{rest}")).unwrap();
        let checked = check(&claims[0], &Fake).unwrap();
        assert_eq!(checked.verdict, expected, "{checked:?}");
        checked
    }

    #[test]
    fn speeds_are_held_against_the_claimed_range() {
        let decode = |range: &str, recipes: &str| {
            format!("kind = 'decode'\nmachine = 'a'\nmodels = ['m']\nrecipes = {recipes}\nrange = {range}")
        };
        check_claim(&decode("[8, 12]", "['q8_0']"), ClaimVerdict::Holds);
        // The forecast's range is 9 to 11.
        check_claim(&decode("[10.5, 14]", "['q8_0']"), ClaimVerdict::InPart);
        check_claim(&decode("[11.5, 14]", "['q8_0']"), ClaimVerdict::Fails);
        check_claim(&decode("[2, 8.5]", "['q8_0']"), ClaimVerdict::Fails);
        let mixed = check_claim(&decode("[8, 12]", "['q8_0', 'f16']"), ClaimVerdict::InPart);
        assert!(mixed.findings[1].figures.starts_with("does not fit: needs"), "{mixed:?}");
    }

    #[test]
    fn ratios_carry_the_ranges_of_both() {
        let text = "kind = 'ratio'\nmachine = 'a'\nover = 'b'\nmodels = ['m']\nrecipes = ['q8_0']\nrange = ";
        check_claim(&format!("{text}[2, 3]"), ClaimVerdict::Holds);
        check_claim(&format!("{text}[2.7, 4]"), ClaimVerdict::InPart);
        check_claim(&format!("{text}[3, 4]"), ClaimVerdict::Fails);
        let tight = |tps| Forecast { tps, low: tps / 1.1, high: tps * 1.1 };
        let found = ratio(&tight(10.0), &tight(4.0));
        let expected = 2.5 * (2f64.sqrt() * 1.1f64.ln()).exp();
        assert!((found.high - expected).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn fits_may_be_meant_of_one_or_of_all() {
        let text = "kind = 'fits'\nmachine = 'a'\nmodels = ['m']\nrecipes = ['f16', 'q8_0']";
        check_claim(text, ClaimVerdict::InPart);
        check_claim(&format!("{text}\nany = true"), ClaimVerdict::Holds);
        check_claim("kind = 'fits'\nmachine = 'a'\nmodels = ['m']\nrecipes = ['f16']\nany = true", ClaimVerdict::Fails);
    }

    #[test]
    fn usable_memory_is_as_the_platforms_agree() {
        let text = "kind = 'usable'\nmachine = 'a'\nrange = ";
        let found = check_claim(&format!("{text}[96, 110]"), ClaimVerdict::InPart);
        assert_eq!(found.findings.iter().map(|f| f.verdict).collect::<Vec<_>>(), [ClaimVerdict::Holds, ClaimVerdict::InPart]);
        check_claim(&format!("{text}[120, 128]"), ClaimVerdict::Fails);
        check_claim(&format!("{text}[60, 110]"), ClaimVerdict::Holds);
    }

    #[track_caller]
    fn refuse(rest: &str, expected: &str) {
        let error = parse(Path::new("c.toml"), &format!("[[claim]]\nsays = 's'\n{rest}")).unwrap_err().to_string();
        assert!(error.contains("c.toml") && error.contains(expected), "{error}");
    }

    #[test]
    fn bad_claims_are_refused_with_their_place() {
        refuse("kind = 'speed'\nmachine = 'a'", "claim \"s\": kind: unknown kind \"speed\"; known: decode, ratio, fits, usable");
        refuse("kind = 'decode'\nmachine = 'a'\nmodels = ['m']\nrecipes = ['q8_0']", "range: is missing");
        refuse("kind = 'usable'\nmachine = 'a'\nrange = [-1, 3]", "[-1, 3] is no range");
        refuse("kind = 'usable'\nmachine = 'a'\nrange = [4, 3]", "[4, 3] is no range");
        refuse("kind = 'fits'\nmachine = 'a'", "models and recipes are missing");
        refuse("kind = 'ratio'\nmachine = 'a'\nmodels = ['m']\nrecipes = ['q8_0']\nrange = [1, 2]", "over: is missing");
        refuse("kind = 'fits'\nmachine = 'a'\nmodels = ['m']\nrecipes = ['q8_0']\ncontext = 0", "context: 0 is no number");
        refuse("kind = 'fits'\nmachine = 'a'\nrecipe = 'q8_0'", "unknown field `recipe`");
    }

    #[test]
    fn every_file_of_the_folder_is_in_the_table_and_reads() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/claims");
        let stem = |entry: std::fs::DirEntry| entry.path().file_stem().unwrap().to_string_lossy().into_owned();
        let mut names: Vec<String> = std::fs::read_dir(folder).unwrap().map(|entry| stem(entry.unwrap())).collect();
        names.sort();
        assert_eq!(names, CLAIMS.iter().map(|(name, _)| *name).collect::<Vec<_>>(), "CLAIMS and configs/claims differ");
        for (name, text) in CLAIMS {
            parse(Path::new(name), text).unwrap();
        }
    }
}
