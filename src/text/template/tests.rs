//! Templates of task files: what jinja2 makes of them under lm-evaluation-harness's settings, and what goes wrong.

use serde_json::json;

use super::*;

fn render(source: &str, doc: Value) -> Result<String, String> {
    let Value::Object(doc) = doc else { panic!("a document is an object") };
    let template = Template::new(source).map_err(|e| e.to_string())?;
    template.render(&Scope::new(&doc)).map_err(|e| e.to_string())
}

#[track_caller]
fn check(source: &str, doc: Value, expected: &str) {
    assert_eq!(render(source, doc).as_deref(), Ok(expected), "{source}");
}

/// Expected: jinja2 3.1.6 with `StrictUndefined` and `keep_trailing_newline`.
#[test]
fn templates_give_what_jinja2_gives() {
    check("{{[a, b]}}", json!({"a": "it's", "b": "x\n"}), r#"["it's", 'x\n']"#);
    check(
        "{{x}} {{y}} {{z}} {{f}} {{l}}\n",
        json!({"x": true, "y": null, "z": 3, "f": 1e-7, "l": [1.0, {"a": false}]}),
        "True None 3 1e-07 [1.0, {'a': False}]\n",
    );
    check("{{c.label.index(k)}}", json!({"c": {"label": ["A", "B"]}, "k": "B"}), "1");
    check(
        "{{t.split(' ')[:-1]|join(' ')}}|{{' '+t.split(' ')[-1]}}",
        json!({"t": "a b  c"}),
        "a b |  c".replace("  c", " c").as_str(),
    );
    check("{{q.strip()}}.", json!({"q": "\u{1f} a \n"}), "a.");
    check("{{[1.5, true]|join(',')}} {{n|string}} {{n ~ 'x'}}", json!({"n": 7}), "1.5,True 7 7x");
    check("{% if a is not none %}y{% else %}n{% endif %}", json!({"a": null}), "n");
    check("{% for c in cs %}{{loop.index}}{{c}} {% endfor %}", json!({"cs": ["a", "b"]}), "1a 2b ");
    check("{{('a', 'b')}} {{d.items()|list}}", json!({"d": {"k": 1}}), "('a', 'b') [('k', 1)]");
    check("{{t|regex_replace('a(.)', '<\\\\1>')}}", json!({"t": "abac"}), "<b><c>");
    check("{{d|tojson}}", json!({"d": {"b": "<é>", "a": 1}}), r#"{"a": 1, "b": "\u003c\u00e9\u003e"}"#);
    check(
        "{{t.rsplit(None, 1)}} {{t.partition('b')}} {{t.capitalize()}}",
        json!({"t": "ab C d"}),
        "['ab C', 'd'] ('a', 'b', ' C d') Ab c d",
    );
    check("{{'%s-%d' | format('a', 3)}}", json!({}), "a-3");
    check("a\r\nb\r", json!({}), "a\nb\n");
}

/// The cases of `jinja2.jsonl` behind its document: what jinja2 3.1.6 gives on Python 3.11, set up as lm-evaluation-harness
/// 0.4.13 sets it up; those that fail do so there, or are refused here by name.
#[test]
fn many_small_templates_give_what_jinja2_gives() {
    let mut lines = include_str!("jinja2.jsonl").lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let document = lines.next().unwrap()["document"].clone();
    let mut wrong = Vec::new();
    for case in lines {
        let source = case["template"].as_str().unwrap();
        let made = render(source, document.clone());
        let right = case["gives"].as_str().map_or(made.is_err(), |expected| made.as_deref() == Ok(expected));
        if !right {
            wrong.push(format!("{source}\n  expected {}\n  made {made:?}", case["gives"]));
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

/// What jinja2 does not know, or what is not supported, is named.
#[test]
fn what_is_refused_is_named() {
    check_error("{% for i in l %}{% continue %}{% endfor %}", "the tag continue");
    check_error("{{ l.append(1) }}", "list.append changes a value in place");
    check_error("{{ l|random }}", "random");
    check_error("{{ l|zip(l) }}", "zip");
    check_error("{{ '%s %s' % ('a',) }}", "not enough arguments");
    check_error("{{ 'a'|regex_replace('a') }}", "as its repl");
    check_error("{{ 'a'|truncate(2, width=1) }}", "width");
    check_error("{{ l|attr('x') }}", "attr reads");
}

#[track_caller]
fn check_error(source: &str, expected: &str) {
    let error = render(source, json!({"a": {"b": 1}, "l": [1]})).unwrap_err();
    assert!(error.contains(expected), "{error:?} lacks {expected:?}");
}

#[test]
fn what_a_document_lacks_is_an_error_with_its_line() {
    check_error("x\n{{missing}}", "line 2");
    check_error("{{a.c}}", "undefined");
    check_error("{% if missing %}{% endif %}", "undefined");
    check_error("{{[missing]|join}}", "undefined");
    check_error("{{'%s' % missing}}", "undefined");
    check_error("{{l.index(2)}}", "not in the list");
    check_error("{{ 1 + }}", "syntax error");
    check_error("{{ a|frobnicate }}", "frobnicate");
    check_error("{% include 'x' %}", "line 1");
}

#[test]
fn a_template_says_what_it_takes_of_a_document() {
    let source =
        "{% set x = b %}{% for c in cs %}{{ c.d ~ x ~ loop.index }}{% endfor %}{{ range(a) }}{% if z is defined %}{% endif %}";
    assert_eq!(Template::new(source).unwrap().names(), ["a", "b", "cs", "z"]);
}

#[test]
fn work_is_bounded() {
    let loops = "{% for i in range(9999) %}{% for j in range(9999) %}x{% endfor %}{% endfor %}";
    check_error(loops, "reasonable time");
    check_error(&"x".repeat(MAX_TEMPLATE_BYTES + 1), "bytes");
    let doubled = "{% set ns = namespace(x=[1]) %}{% for i in range(31) %}{% set ns.x = ns.x + ns.x %}{% endfor %}";
    let source = format!("{doubled}{{% if 2 in ns.x %}}{{% endif %}}");
    let found = watched(move || render(&source, json!({})));
    let error = found.map_err(|e| e.to_string()).and_then(|inner| inner).unwrap_err();
    assert!(error.contains("reasonable time"), "{error}");
}

#[test]
fn watched_work_gives_its_result() {
    assert_eq!(watched(|| 2 + 2), Ok(4));
    assert!(watched(|| -> i32 { panic!("as a template's bug would") }).is_err());
}
