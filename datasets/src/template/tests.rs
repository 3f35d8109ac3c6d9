//! Templates render as in the reference (`tests/data/templates.json`, made by `tests/goldens/templates.py`), and
//! hostile ones are stopped.

use serde_json::{Value, json};

use super::*;
use crate::testing;

#[derive(serde::Deserialize)]
struct Golden {
    special: std::collections::BTreeMap<String, String>,
    date: String,
    templates: std::collections::BTreeMap<String, String>,
    dialogues: std::collections::BTreeMap<String, Dialogue>,
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Dialogue {
    messages: Vec<Value>,
    tools: Option<Vec<Value>>,
}

#[derive(serde::Deserialize)]
struct Case {
    template: String,
    dialogue: String,
    prompt: bool,
    text: Option<String>,
    spans: Option<Vec<(usize, usize)>>,
}

/// The number of cases that agree, the number of cases, and the first that differ.
fn compare(golden: &Golden) -> (usize, usize, Vec<String>) {
    let special = SpecialTokens { texts: golden.special.clone(), ..SpecialTokens::default() };
    let compiled: std::collections::BTreeMap<_, _> = golden
        .templates
        .iter()
        .map(|(name, source)| {
            let template = ChatTemplate::from_source(name, source, &special, Some(&golden.date));
            (name.as_str(), template)
        })
        .collect();
    let mut agreed = 0;
    let mut differing = Vec::new();
    for case in &golden.cases {
        let dialogue = &golden.dialogues[&case.dialogue];
        let name = format!("{} / {} / {}", case.template, case.dialogue, case.prompt);
        let rendered = match &compiled[case.template.as_str()] {
            Ok(template) => template.try_render(&dialogue.messages, dialogue.tools.as_deref(), case.prompt),
            Err(error) => Err(error.to_string()),
        };
        let agrees = match (&rendered, &case.text) {
            (Ok((text, spans)), Some(expected)) => {
                let spans: Vec<_> = spans.iter().map(|span| (span.start, span.end)).collect();
                text == expected && case.spans.as_ref().is_none_or(|expected| *expected == spans)
            }
            (Err(_), None) => true,
            _ => false,
        };
        match agrees {
            true => agreed += 1,
            false => differing.push(format!("{name}\n  expected {:?}\n  found    {rendered:?}", case.text)),
        }
    }
    (agreed, golden.cases.len(), differing)
}

#[test]
fn templates_render_as_the_reference_renders_them() {
    let mut paths = vec![testing::data().join("templates.json")];
    paths.extend(std::env::var_os("FIREBRAND_TEMPLATE_GOLDENS").map(Into::into));
    let mut all = Vec::new();
    for path in paths {
        let golden: Golden = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let (agreed, of, differing) = compare(&golden);
        println!("{}: {agreed} of {of} cases agree", path.display());
        all.extend(differing);
    }
    assert!(all.is_empty(), "{} cases differ\n{}", all.len(), all.join("\n"));
}

#[test]
fn the_goldens_hold_the_built_in_templates_as_they_are() {
    let golden: Value =
        serde_json::from_slice(&std::fs::read(testing::data().join("templates.json")).unwrap()).unwrap();
    for builtin in Builtin::ALL {
        assert_eq!(golden["templates"][builtin.name()], builtin.source(), "run tests/goldens/templates.py again");
    }
}

#[test]
fn the_recipes_documentation_names_the_built_in_templates() {
    let schema = schemars::schema_for!(crate::config::DataConfig).to_value();
    let text = schema["properties"]["template"]["description"].as_str().unwrap_or_default();
    for builtin in Builtin::ALL {
        assert!(text.contains(&format!("`{}`", builtin.name())), "{} is not in {text:?}", builtin.name());
    }
}

#[test]
fn a_template_without_end_is_stopped() {
    let ask = [json!({"role": "user", "content": "x"})];
    let grow = |set: &str, end: &str| {
        format!(
            "{{% set n = namespace(x=[1], s='xxxxxxxx') %}}{{% for i in range(99) %}}{{% set n.{set} %}}{{% endfor %}}{end}"
        )
    };
    let double = |end: &str| {
        format!(
            "{{% macro f(x, n) %}}{{% if n %}}{{{{ f([x, x], n - 1) }}}}{{% else %}}{end}{{% endif %}}{{% endmacro %}}{{{{ f(1, 60) }}}}"
        )
    };
    for source in [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% set c = a * b %}{% endfor %}{% endfor %}".into(),
        "{% for a in range(99999) %}{% for b in range(99999) %}{{ 'many words' }}{% endfor %}{% endfor %}".into(),
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".into(),
        "{{ 'x' * 999999999999 }}".into(),
        "{{ ('x' * 1000000).replace('x', 'y' * 1000000) }}".into(),
        grow("s = n.s ~ n.s", "{{ n.s | length }}"),
        grow("s = n.s + n.s", "{{ n.s | length }}"),
        grow("x = n.x + n.x", "{{ n.x | length }}"),
        grow("x = n.x * 2", "{{ n.x | length }}"),
        grow("x = [n.x, n.x]", ""),
        double("{{ x }}"),
        double("{{ x ~ '' }}"),
        double("{{ x | string }}"),
        double("{{ x | tojson }}"),
        double("{{ [x] | join }}"),
        double("{{ '%s' | format(x) }}"),
        double("{{ '{}'.format(x) }}"),
        // A namespace that contains itself, in operations that would never end on it.
        "{% set n = namespace() %}{% set n.a = n %}{{ n | upper }}".into(),
        "{% set n = namespace() %}{% set n.a = [n] %}{{ {n: 1} | length }}".into(),
        "{% set n = namespace() %}{% set n.a = [n] | reverse %}{{ n | upper }}".into(),
        "{% set n = namespace() %}{% set m = namespace(a={'b': n}) %}{% set n.a = m %}{{ n == m }}".into(),
        grow("x = [[n.x]]", "{{ n.x | upper }}"),
        "{{ '{:4000000000}'.format('a') }}".into(),
        "{{ 'a'.ljust(4000000000) }}".into(),
        "{% for j in range(2) %}{% for i in range(99999) %}{% set x = namespace(a=1) %}{% endfor %}{% endfor %}".into(),
        format!("{{{{ 1 }}}}{}", " ".repeat(300 << 10)),
    ] {
        let text = ChatTemplate::from_source("test", &source, &SpecialTokens::default(), None)
            .and_then(|template| template.render(&ask, None, false));
        assert!(text.is_err(), "{}", &source[..source.len().min(200)]);
    }
}

#[test]
fn what_is_not_counted_is_bounded_by_the_clock() {
    let source = "{% macro f(x, y, n) %}{% if n %}{{ f([x, x], [y, y], n - 1) }}{% else %}{{ x == y }}{% endif %}\
        {% endmacro %}{{ f(1, 1, 60) }}";
    let engine = Engine::new(source, None).unwrap();
    let late = engine.render_within(Variable::from(()), 0, std::time::Duration::from_millis(300));
    assert!(late.unwrap_err().contains("has not ended after 0.3 s"));
}

#[test]
fn nesting_does_not_overflow_the_stack() {
    let deep = |set: &str| {
        let source = format!(
            "{{% set n = namespace(x=[1]) %}}{{% for j in range(99) %}}{{% for i in range(9999) %}}\
             {{% set n.x = {set} %}}{{% endfor %}}{{% endfor %}}done"
        );
        testing::template(&source).render(&[], None, false)
    };
    // Within the fuel the rendering ends well, beyond it in an error; in no case does the process end.
    for set in [
        "[n.x]",
        "(n.x,)",
        "{'a': n.x}",
        "dict(a=n.x)",
        "n.x[0:]",
        "[n.x] | reverse",
        "[n.x] | map('list')",
        "namespace(a=n.x)",
    ] {
        let text = deep(set);
        assert!(text.as_ref().is_ok_and(|text| text == "done") || text.is_err(), "{set}: {text:?}");
    }
    for (part, times) in [(" ~ a", 10_000), (".a", 60_000), (" | list", 20_000), ("[0]", 60_000), (" + 1", 10_000)] {
        let source = format!("{{{{ a{} }}}}", part.repeat(times));
        let template = ChatTemplate::from_source("test", &source, &SpecialTokens::default(), None);
        drop(template.map(|template| template.render(&[], None, false)));
    }
}

#[test]
fn a_template_reaches_no_file() {
    let ask = [json!({"role": "user", "content": "x"})];
    for source in ["{% include '/etc/hostname' %}", "{% import 'Cargo.toml' as c %}", "{% extends 'base' %}"] {
        let text = ChatTemplate::from_source("test", source, &SpecialTokens::default(), None)
            .and_then(|template| template.render(&ask, None, false));
        assert!(text.is_err(), "{source}");
    }
}

#[test]
fn what_a_template_refuses_is_said_in_its_words() {
    let template =
        testing::template("{% for m in messages %}\n{{ raise_exception('roles must alternate') }}{% endfor %}");
    let error = template.render(&[json!({"role": "user", "content": "x"})], None, false).unwrap_err();
    assert!(error.to_string().contains("roles must alternate"), "{error}");
    let error = ChatTemplate::from_source("test", "{% if %}", &SpecialTokens::default(), None).unwrap_err();
    assert!(error.to_string().contains("test"), "{error}");
    let error =
        ChatTemplate::from_source("test", "{{ a }}\n  {% if x = 1 %}\n{% endif %}", &SpecialTokens::default(), None);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("line 2 is `{% if x = 1 %}`"), "{error}");
}

#[test]
fn the_header_of_an_answer_is_known_where_no_generation_prompt_writes_it() {
    let prompt = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
    let chatml = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}";
    assert_eq!(testing::template(chatml).unprompted_header(), Some("<|im_start|>assistant\n"));
    assert_eq!(testing::template(&format!("{chatml}{prompt}")).unprompted_header(), None);
    for builtin in Builtin::ALL {
        assert_eq!(testing::template(builtin.source()).unprompted_header(), None, "{}", builtin.name());
    }
}

#[test]
fn marks_in_a_text_are_refused_where_they_would_be_read() {
    let template =
        testing::template("{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}");
    let forged = [json!({"role": "user", "content": "a\u{fdd0}b\u{fdd1}"})];
    assert!(template.render(&forged, None, false).is_err());
    let plain = testing::template("{{ messages[0].content }}");
    assert_eq!(plain.render(&forged, None, false).unwrap(), "a\u{fdd0}b\u{fdd1}");
}

#[test]
fn the_models_template_is_found_in_file_config_or_list() {
    let ask = [json!({"role": "user", "content": "x"})];
    let load = |dir: &tempfile::TempDir| {
        let tokenizer = Tokenizer::from_folder(dir.path())?;
        ChatTemplate::load(&TemplateChoice::Model, Path::new("."), &tokenizer, None)
    };
    let none = testing::tokenizer_folder("{}");
    let error = load(&none).unwrap_err().to_string();
    assert!(Builtin::ALL.iter().all(|builtin| error.contains(builtin.name())), "{error}");
    let config = testing::tokenizer_folder(r#"{"chat_template": "config {{ bos_token }}", "bos_token": "<s>"}"#);
    assert_eq!(load(&config).unwrap().render(&ask, None, false).unwrap(), "config <s>");
    std::fs::write(config.path().join("chat_template.jinja"), "file").unwrap();
    assert_eq!(load(&config).unwrap().render(&ask, None, false).unwrap(), "file");
    let named = testing::tokenizer_folder(
        r#"{"chat_template": [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]}"#,
    );
    let template = load(&named).unwrap();
    assert_eq!(template.render(&ask, None, false).unwrap(), "plain");
    assert_eq!(template.render(&ask, Some(&[json!({})]), false).unwrap(), "tools");
}

#[test]
fn a_template_file_is_looked_up_from_the_base() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("my.jinja"), "mine\n").unwrap();
    let tokenizer = testing::tokenizer();
    let load = |text: &str| ChatTemplate::load(&TemplateChoice::from(text.to_string()), dir.path(), &tokenizer, None);
    assert_eq!(load("my.jinja").unwrap().render(&[], None, false).unwrap(), "mine");
    let error = load("chatlm").unwrap_err().to_string();
    assert!(error.contains("chatlm") && error.contains("chatml"), "{error}");
}

#[test]
fn the_date_can_be_fixed_and_must_be_one() {
    let source = "{{ strftime_now('%d %B %Y') }}";
    let special = SpecialTokens::default();
    let template = ChatTemplate::from_source("test", source, &special, Some("2026-01-31")).unwrap();
    assert!(template.tells_the_date());
    assert_eq!(template.render(&[], None, false).unwrap(), "31 January 2026");
    assert!(ChatTemplate::from_source("test", source, &special, Some("31.1.2026")).is_err());
    let bad = testing::template("{{ strftime_now('%!') }}");
    assert!(bad.render(&[], None, false).is_err());
}

#[test]
fn the_hash_changes_with_the_source() {
    let (a, b) = (testing::template("a"), testing::template("b"));
    assert_eq!(a.template_hash(), testing::template("a").template_hash());
    assert_ne!(a.template_hash(), b.template_hash());
    assert_eq!(a.template_hash().len(), 64);
}
