//! Chat templates: what jinja2 makes of them in transformers, and what goes wrong.

use bitworth_quant::random::SplitMix64;
use serde_json::Value as Json;

use super::*;

/// Templates of our own, built like those of published models, with chats and what transformers 5.23 with jinja2 3.1.6 makes of
/// them: one JSON object a line.
const GOLDEN: &str = include_str!("golden.jsonl");

fn template(source: &str) -> Result<ChatTemplate, String> {
    let text = |text: &str| Some(text.to_owned());
    let tokens = Tokens { bos: text("<s>"), eos: text("</s>") };
    ChatTemplate::new(Path::new("model"), source, tokens, Date::OF_RECORDS).map_err(|e| e.to_string())
}

fn render(source: &str) -> Result<String, String> {
    template(source)?.render(&[Message::new(ChatRole::User, "Hello!")]).map_err(|e| e.to_string())
}

#[test]
fn templates_give_what_jinja2_gives() {
    let mut failed = Vec::new();
    for line in GOLDEN.lines() {
        let case: Json = serde_json::from_str(line).unwrap();
        let lines: Vec<&str> = case["template"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
        let message = |m: &Json| {
            let role = match m["role"].as_str().unwrap() {
                "system" => ChatRole::System,
                "user" => ChatRole::User,
                _ => ChatRole::Assistant,
            };
            Message::new(role, m["content"].as_str().unwrap())
        };
        let messages: Vec<Message> = case["messages"].as_array().unwrap().iter().map(message).collect();
        let found = template(&lines.join("\n")).and_then(|t| t.render(&messages).map_err(|e| e.to_string()));
        // jinja2 takes every kind of newline for the same.
        let windows = template(&lines.join("\r\n")).and_then(|t| t.render(&messages).map_err(|e| e.to_string()));
        if windows != found {
            failed.push(format!("{} with carriage returns\n  found    {windows:?}", case["name"]));
        }
        if found.as_deref() != Ok(case["expected"].as_str().unwrap()) {
            failed.push(format!("{}\n  found    {found:?}\n  expected {}", case["name"], case["expected"]));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[track_caller]
fn check_error(source: &str, expected: &[&str]) {
    let error = render(source).unwrap_err();
    for part in expected {
        assert!(error.contains(part), "{error:?} lacks {part:?}");
    }
}

#[test]
fn a_template_that_fails_is_shown_with_its_line() {
    check_error("a\n{% if x %}\n  {{ messages[0].content.foo() }}{% endif %}{{ 1 + }}", &["line 3", "syntax error"]);
    check_error("a\n\n{{ messages[0].content.foo() }}", &["model", "line 3", "messages[0].content.foo()", "foo"]);
    check_error("{{ raise_exception('no system here') }}", &["line 1", "it says: no system here"]);
    check_error("\n{{ nothing.at.all }}", &["line 2", "undefined"]);
    check_error("{{ messages | frobnicate }}", &["line 1", "frobnicate"]);
    check_error("{% include 'x' %}", &["line 1"]);
    check_error("{% for x in %}", &["line 1", "syntax error"]);
    check_error("{{ strftime_now('%Q') }}", &["%Q"]);
    check_error(&" ".repeat(jinja::MAX_TEMPLATE_BYTES + 1), &["1048577 bytes"]);
    check_error(&format!("{{{{ {} + }}}}", "x".repeat(500)), &["xxx..."]);
}

#[track_caller]
fn check_stopped(source: &str, expected: &str) {
    let begin = std::time::Instant::now();
    check_error(source, &[expected]);
    assert!(begin.elapsed().as_secs() < 20, "{source}");
}

#[test]
fn a_loop_without_end_is_stopped() {
    let times = |n: usize| ["{% for a in range(9999) %}".repeat(n), "x".to_owned(), "{% endfor %}".repeat(n)].concat();
    check_stopped(&times(3), "reasonable time");
}

#[test]
fn a_text_without_end_is_stopped() {
    let doubled = "{% set ns = namespace(x='abcdefgh') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}";
    check_stopped(doubled, "reasonable time");
    check_stopped("{{ 'x' * 10000000000 }}", "line 1");
}

/// Small enough to end by itself one day: a thread that was left behind must not fill the memory of the test.
#[test]
fn a_list_without_end_is_stopped() {
    let doubled = "{% set ns = namespace(x=[1]) %}{% for i in range(31) %}{% set ns.x = ns.x + ns.x %}{% endfor %}";
    check_stopped(&format!("{doubled}{{% if 2 in ns.x %}}{{% endif %}}"), "reasonable time");
}

#[test]
fn a_macro_without_end_is_stopped() {
    check_stopped("{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}", "line 1");
}

#[test]
fn values_nested_without_end_are_stopped() {
    let nest = "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}";
    check_stopped(&format!("{nest}{{{{ ns.x|tojson }}}}"), "line 1");
}

#[test]
fn brackets_without_end_are_stopped() {
    check_stopped(&format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000)), "line 1");
}

#[test]
fn a_template_can_reach_nothing_but_its_chat() {
    for source in
        ["{{ self }}", "{{ messages.append(1) }}", "{{ ''.__class__ }}{{ ''.__class__.__mro__ }}", "{% import 'os' as os %}"]
    {
        let found = render(source);
        assert!(found.is_err() || found.as_deref() == Ok(""), "{source}: {found:?}");
    }
}

#[test]
fn broken_templates_are_errors_and_nothing_worse() {
    let mut random = SplitMix64::new(1);
    let mut below = |n| random.below(n);
    for line in GOLDEN.lines() {
        let case: Json = serde_json::from_str(line).unwrap();
        let lines: Vec<&str> = case["template"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
        let chars: Vec<char> = lines.join("\n").chars().collect();
        for _ in 0..20 {
            let mut broken = chars.clone();
            for _ in 0..1 + below(3) {
                let at = below(broken.len());
                match below(3) {
                    0 => broken.truncate(at.max(1)),
                    1 => drop(broken.remove(at)),
                    _ => broken.insert(at, ['{', '}', '%', '\'', '(', '-', '|', '.', ']'][below(9)]),
                }
                if broken.is_empty() {
                    broken.push('{');
                }
            }
            let _ = render(&broken.into_iter().collect::<String>());
        }
    }
}

#[test]
fn the_day_is_the_one_that_was_given() {
    assert_eq!(render("{{ strftime_now('%d %b %Y') }}").unwrap(), "26 Jul 2024");
}

/// Expected: transformers 5.23, `apply_chat_template(..., continue_final_message=True)`.
#[test]
fn an_answer_that_was_begun_ends_the_text() {
    let source = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>\n{% endfor %}\
                  {% if add_generation_prompt %}<assistant>{% endif %}";
    let messages = |begun: &str| [Message::new(ChatRole::User, "Sum: 1"), Message::new(ChatRole::Assistant, begun)];
    let up_to = |source: &str, begun: &str| template(source)?.render_up_to(&messages(begun), true).map_err(|e| e.to_string());
    assert_eq!(up_to(source, "Sum: ").unwrap(), "<user>Sum: 1</s>\n<assistant>Sum: ");
    assert_eq!(up_to(&source.replace("m.content", "m.content|trim"), "Sum: ").unwrap(), "<user>Sum: 1</s>\n<assistant>Sum:");
    assert!(up_to("{{ messages[0].content }}", "Answer").unwrap_err().contains("beginning of an answer"));
    assert!(template(source).unwrap().render(&messages("x")).unwrap().ends_with("<assistant>"));
}

#[test]
fn a_token_that_the_model_lacks_is_undefined() {
    let template =
        ChatTemplate::new(Path::new("m"), "[{{ bos_token }}{{ eos_token is defined }}]", Tokens::default(), Date::OF_RECORDS);
    assert_eq!(template.unwrap().render(&[]).unwrap(), "[False]");
}
