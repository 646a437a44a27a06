//! The language of a text, by its letters and its most common words. A stand-in for langdetect, which compares runs of up to
//! three letters with trained profiles and draws at random; the two mostly agree on whole sentences, not on a few words.
//!
//! The words are common knowledge, written down for this file. The languages are those that langdetect names.

use std::collections::HashMap;

/// Languages in Latin letters, with their common words; of a word that several have, each gets a share.
const WORDS: [(&str, &str); 31] = [
    (
        "en",
        "the of and to in is that it was for on are as with his they at be this from have or by not but what all were when we \
            there can an your which their said if do will each about how up out them then she many some so these would other \
            into has more her two like him see time could no make than been its who now my you i me he us our",
    ),
    (
        "es",
        "de la que el en y a los se del las un por con no una su para es al lo como más pero sus le ya o este sí porque esta \
            entre cuando muy sin sobre también me hasta hay donde quien desde todo nos durante todos uno les ni contra otros \
            ese eso",
    ),
    (
        "pt",
        "de a o que e do da em um para é com não uma os no se na por mais as dos como mas foi ao ele das tem à seu sua ou ser \
            quando muito há nos já está eu também só pelo pela até isso ela entre era depois sem mesmo aos ter seus quem nas \
            você são",
    ),
    (
        "fr",
        "de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se ce il sont la avec ils elle mais \
            comme nous vous on ou son ses leur cette ces été être aux sans je tout même fait où d l c qu n s",
    ),
    (
        "de",
        "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er hat dass \
            sie nach wird bei einer um am sind noch wie einem über einen so zum war haben nur oder aber vor zur bis mehr durch \
            man ich wir",
    ),
    (
        "it",
        "di e il la che in un a per è una sono non con del si da come le dei nel alla più anche al i della o ma ha lo gli se \
            questo su delle mi ci nella essere ho questa dal tutto era molto perché io cui quando lui noi degli ai l",
    ),
    (
        "nl",
        "de het een van en in is dat op te zijn met voor niet aan er om ook als dan maar bij uit nog naar ze door wat over of \
            hij ik worden wordt heeft was je deze die tot hebben kan geen meer wel we werd veel onder",
    ),
    (
        "pl",
        "i w na z do nie się że to jest o jak po co ale od za przez dla czy tym oraz tak jego było są już może być tylko ma \
            który która które ich ze był gdy bardzo jej go przy także aby pod",
    ),
    (
        "cs",
        "a se v na je že o s z do i to k ve pro za by jsem ale po si jako jsou bylo jeho být které který tak nebo už jen od \
            při byl však může jak také co podle ještě",
    ),
    (
        "sk",
        "a sa v na je že o s z do aj to k vo pre za by som ale po si ako sú bolo jeho byť ktoré ktorý tak alebo už len od pri \
            bol však môže tiež čo podľa ešte",
    ),
    (
        "sv",
        "och i att det som en på är av för med till den har de inte om ett han men var jag sig från vi så kan man när år nu \
            eller också efter vid hade skulle mycket ut där hon",
    ),
    (
        "da",
        "og i at det er en til af på de med den for der ikke som et har du jeg fra var han men om kan hun så vi skal eller ved \
            også sig blev efter hvor mere noget meget hvad",
    ),
    (
        "no",
        "og i det er en til av på de med den for som ikke et har jeg fra var han men om kan hun så vi skal eller ved også seg \
            ble etter hvor mer noe mye hva etterpå å",
    ),
    (
        "fi",
        "ja on ei että se oli hän mutta joka ovat kun niin kuin myös mitä tämä sen ole olla vain jos tai hänen ne nyt jo sitä \
            kanssa siitä voi minä mukaan kaikki sekä mukaan",
    ),
    (
        "et",
        "ja on ei et see oli ta aga kes kui nii ka mis seda selle oma või ning siis veel pole välja tema me \
            ma olid olema juba mida",
    ),
    (
        "hu",
        "a az és hogy nem egy is ez van de meg mint ha csak már el volt ki azt vagy még kell lesz ezt minden \
            után pedig amely",
    ),
    (
        "ro",
        "de și în a la cu nu pe o un este că din mai care să se au sunt pentru ce fi prin dar ca sau al lui \
            fost ei după această",
    ),
    (
        "hr",
        "i u je na se da za su od s ne o koji kao a iz će što to bi koja koje ili ali biti po bio sam samo \
            također još već nije",
    ),
    ("sl", "in je na se da za so v z ne ki kot pa bi iz to po ali biti bil sem tudi še že pri lahko ter od ni kar kako med"),
    ("sq", "të e në dhe për një me që është i nga si më nuk se do ka u por kjo ky janë kur nëse duke tij saj ishte edhe"),
    (
        "tr",
        "ve bir bu da de için ile çok olarak daha olan ne gibi var kadar o en sonra ama değil ben her mi \
            olduğu ki ya yok nasıl",
    ),
    (
        "vi",
        "là và của có không được cho một những trong với các người này khi đã để từ đó về như cũng tôi ra đến nhiều nhưng bạn \
            rất sẽ vào năm hay tại theo",
    ),
    (
        "id",
        "yang dan di dengan untuk tidak ini dari dalam itu akan pada ke adalah saya juga bisa kita orang mereka oleh ada \
            karena telah lebih anda atau seperti kami",
    ),
    ("tl", "ang ng sa na mga at ay ito hindi ko ni kung si para may ako siya niya mo ka lang isang pero rin nang kanyang"),
    (
        "sw",
        "na ya wa kwa ni katika za la kuwa hii cha hiyo kama huo watu au sana yake lakini pia wake hapa mimi yangu kila hivyo \
            huu zaidi wewe sisi ili bila",
    ),
    (
        "af",
        "die en van het in is dat nie te vir met op sy ek hy wat aan om was as ook maar hulle een by kan sal \
            ons word deur daar",
    ),
    (
        "ca",
        "de la i el que a en les els un per és una amb no es del al se com més però són seva dels aquest \
            aquesta ha també ser ho hi",
    ),
    ("cy", "yn y a i o ar yr mae ei ac am ond eu fel wedi bod oedd hyn gan nid un bydd roedd gyda sydd chi"),
    ("lt", "ir kad į iš yra su tai kaip bet jis buvo ne nuo po per arba tik už jo dar apie jau taip savo prie kur labai gali"),
    ("lv", "un ir ar ka no par uz kas tas bet kā ne vai lai pēc pie viņš arī bija ja tā to līdz jau tikai savu vēl var"),
    ("so", "iyo ka ku oo waa in ay uu la waxaa soo ah ee ayaa u aan waxay wuxuu loo si ama kale badan"),
];

/// Letters that one language or a few of those in Latin letters have.
const LETTERS: [(char, &str); 20] = [
    ('ñ', "es tl"),
    ('¿', "es"),
    ('ã', "pt"),
    ('õ', "pt et"),
    ('ß', "de"),
    ('ł', "pl"),
    ('ř', "cs"),
    ('ľ', "sk"),
    ('å', "sv da no"),
    ('ø', "da no"),
    ('ő', "hu"),
    ('ű', "hu"),
    ('ț', "ro"),
    ('ș', "ro"),
    ('ğ', "tr"),
    ('đ', "vi hr"),
    ('ơ', "vi"),
    ('ư', "vi"),
    ('ė', "lt"),
    ('ļ', "lv"),
];

/// Scripts that one language writes, with the first and the last of their letters.
const SCRIPTS: [(&str, char, char); 13] = [
    ("el", '\u{370}', '\u{3ff}'),
    ("he", '\u{590}', '\u{5ff}'),
    ("bn", '\u{980}', '\u{9ff}'),
    ("pa", '\u{a00}', '\u{a7f}'),
    ("gu", '\u{a80}', '\u{aff}'),
    ("ta", '\u{b80}', '\u{bff}'),
    ("te", '\u{c00}', '\u{c7f}'),
    ("kn", '\u{c80}', '\u{cff}'),
    ("ml", '\u{d00}', '\u{d7f}'),
    ("th", '\u{e00}', '\u{e7f}'),
    ("ja", '\u{3040}', '\u{30ff}'),
    ("zh-cn", '\u{4e00}', '\u{9fff}'),
    ("ko", '\u{ac00}', '\u{d7af}'),
];

/// Signs and words of the languages that share a script: the first language where there is nothing else.
type Shared = (char, char, &'static str, &'static [(&'static str, &'static str)]);
const SHARED: [Shared; 3] = [
    (
        '\u{400}',
        '\u{52f}',
        "ru",
        &[("uk", "і ї є ґ"), ("bg", "ъ щ на се да от за са със че"), ("mk", "ј љ њ ѓ ќ ѕ"), ("ru", "ы э ё")],
    ),
    ('\u{600}', '\u{6ff}', "ar", &[("ur", "ٹ ڈ ڑ ں ے ہ ھ"), ("fa", "پ چ ژ گ ک ی"), ("ar", "ة ى ي ك أ إ")]),
    (
        '\u{900}',
        '\u{97f}',
        "hi",
        &[
            ("mr", "ळ आहे आणि नाही होते ते च्या या एक मी तो"),
            ("ne", "छ छन् हो र मा को लाई गर्न पनि यो भने"),
            ("hi", "है हैं के में की और का को से पर यह ने"),
        ],
    ),
];

fn within(c: char, first: char, last: char) -> bool {
    (first..=last).contains(&c)
}

/// The most common language of a text, by langdetect's name; `None` where it has no letters.
pub(super) fn detect(text: &str) -> Option<&'static str> {
    let letters: Vec<char> = text.chars().filter(|c| c.is_alphabetic()).collect();
    let latin = letters.iter().filter(|c| **c < '\u{300}' || within(**c, '\u{1e00}', '\u{1eff}')).count();
    if letters.is_empty() {
        return None;
    }
    let count = |first: char, last: char| letters.iter().filter(|c| within(**c, first, last)).count();
    let own = SCRIPTS.iter().map(|(name, first, last)| (count(*first, *last), *name));
    let shared = SHARED.iter().map(|(first, last, name, _)| (count(*first, *last), *name));
    let (most, script) = own.chain(shared).max_by_key(|(count, _)| *count).unwrap_or((0, "en"));
    if latin > 2 * most {
        return Some(latin_language(text));
    }
    // Japanese is written with Chinese signs as well.
    let kana = count('\u{3040}', '\u{30ff}');
    if script == "zh-cn" && kana * 10 > most {
        return Some("ja");
    }
    let signs = SHARED.iter().find(|(_, _, name, _)| *name == script);
    Some(signs.map_or(script, |(_, _, first, languages)| among(text, first, languages)))
}

/// Whether the text is English, or has nothing to tell by.
pub(super) fn is_english(text: &str) -> bool {
    detect(text).is_none_or(|found| found == "en")
}

/// Which of some languages has most of its signs in the text; longer words count more.
fn among(text: &str, first: &'static str, languages: &[(&'static str, &str)]) -> &'static str {
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric() && !within(c, '\u{900}', '\u{97f}')).collect();
    let score = |signs: &str| -> usize {
        let one = |sign: &str| match sign.chars().count() {
            1 if !within(sign.chars().next().unwrap_or(' '), '\u{900}', '\u{97f}') => text.matches(sign).count(),
            length => length * words.iter().filter(|word| **word == sign).count(),
        };
        signs.split(' ').map(one).sum()
    };
    let best = languages.iter().map(|(name, signs)| (score(signs), *name)).max_by_key(|(score, _)| *score);
    best.filter(|(score, _)| *score > 0).map_or(first, |(_, name)| name)
}

fn latin_language(text: &str) -> &'static str {
    let text = text.to_lowercase();
    let mut owners: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, (_, words)) in WORDS.iter().enumerate() {
        words.split_whitespace().for_each(|word| owners.entry(word).or_default().push(at));
    }
    let mut scores = [0.0; WORDS.len()];
    for word in text.split(|c: char| !c.is_alphanumeric()) {
        let own = owners.get(word).map(Vec::as_slice).unwrap_or_default();
        own.iter().for_each(|at| scores[*at] += 1.0 / own.len() as f64);
    }
    for c in text.chars() {
        let Some((_, languages)) = LETTERS.iter().find(|(letter, _)| *letter == c) else { continue };
        for name in languages.split(' ') {
            let at = WORDS.iter().position(|(own, _)| *own == name).unwrap_or_default();
            scores[at] += 0.5;
        }
    }
    // English of equals, as it comes first.
    let mut best = 0;
    for at in 1..scores.len() {
        if scores[at] > scores[best] {
            best = at;
        }
    }
    WORDS[best].0
}
