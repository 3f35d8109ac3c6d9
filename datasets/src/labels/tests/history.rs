//! Templates that write earlier turns differently, and templates whose generation prompt opens what an answer goes on
//! with: what is trained is the answer as the whole dialogue has it.
//!
//! The templates here are small ones of the shapes that published models have. `FIREBRAND_TEMPLATES=FOLDER` tries all
//! `*.jinja` files of a folder as well.

use regex::Regex;

use super::*;

/// Qwen 3: thoughts of turns before the last question are dropped, and each later answer begins with a thought, an empty
/// one if need be. Results of tools are questions of the user.
const DROPS_THOUGHTS: &str = "{%- set ns = namespace(last=-1) -%}\
    {%- for m in messages -%}{%- if m.role == 'user' -%}{%- set ns.last = loop.index0 -%}{%- endif -%}{%- endfor -%}\
    {%- for m in messages -%}{%- if m.role == 'tool' -%}\
    {{- '<|im_start|>user\\n<tool_response>\\n' + m.content + '\\n</tool_response><|im_end|>\\n' -}}\
    {%- elif m.role == 'assistant' -%}{%- set thought = m.reasoning_content or '' -%}{%- set content = m.content or '' -%}\
    {%- if not thought and '</think>' in content -%}\
    {%- set thought = content.split('</think>')[0].split('<think>')[-1].strip('\\n') -%}\
    {%- set content = content.split('</think>')[-1].lstrip('\\n') -%}{%- endif -%}{{- '<|im_start|>assistant\\n' -}}\
    {%- if loop.index0 > ns.last and (loop.last or thought) -%}\
    {{- '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') -}}\
    {%- else -%}{{- content -}}{%- endif -%}\
    {%- for call in m.tool_calls or [] -%}{%- set call = call.function -%}\
    {{- '\\n<tool_call>\\n{\"name\": \"' + call.name + '\", \"arguments\": ' + (call.arguments if call.arguments is string else call.arguments | tojson) + '}\\n</tool_call>' -}}\
    {%- endfor -%}{{- '<|im_end|>\\n' -}}\
    {%- else -%}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' -}}{%- endif -%}{%- endfor -%}\
    {%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}";

/// R1 and its distills: no thought is ever written, and the generation prompt opens one. A system message stands first,
/// wherever it comes.
const OPENS_A_THOUGHT: &str = "{%- for m in messages if m.role == 'system' -%}{{- m.content -}}{%- endfor -%}\
    {%- for m in messages -%}{%- if m.role == 'user' or m.role == 'tool' -%}{{- '<|im_start|>' + m.content -}}\
    {%- elif m.role == 'assistant' -%}{{- '[/INST]' + m.content.split('</think>')[-1] + '<|im_end|>' -}}{%- endif -%}{%- endfor -%}\
    {%- if add_generation_prompt -%}{{- '[/INST]<think>\\n' -}}{%- endif -%}";

/// gpt-oss: a channel of thoughts before the last answer only, which ends in another token than the others.
const CHANNELS: &str = "{%- for m in messages -%}{%- if m.role == 'assistant' -%}\
    {%- if loop.last and not add_generation_prompt -%}{%- if m.thinking -%}\
    {{- '<|im_start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|im_end|>' -}}{%- endif -%}\
    {{- '<|im_start|>assistant<|channel|>final<|message|>' + m.content + '</s>' -}}\
    {%- else -%}{{- '<|im_start|>assistant<|channel|>final<|message|>' + m.content + '<|im_end|>' -}}{%- endif -%}\
    {%- else -%}{{- '<|im_start|>' + m.role + '<|message|>' + m.content + '<|im_end|>' -}}{%- endif -%}{%- endfor -%}\
    {%- if add_generation_prompt -%}{{- '<|im_start|>assistant' -}}{%- endif -%}";

/// Phi-3.5: an end of text behind the last message.
const ENDS_A_TEXT: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% else %}{{ '</s>' }}{% endif %}";

/// Mistral Nemo: the system prompt stands in the last question. There is no generation prompt.
const SYSTEM_IN_THE_LAST: &str = "{%- set ns = namespace(last=-1, system='') -%}{%- for m in messages -%}\
    {%- if m.role == 'user' -%}{%- set ns.last = loop.index0 -%}{%- elif m.role == 'system' -%}{%- set ns.system = m.content + '\\n\\n' -%}{%- endif -%}{%- endfor -%}\
    {%- for m in messages -%}{%- if m.role == 'user' or m.role == 'tool' -%}\
    {{- '[INST]' + (ns.system if loop.index0 == ns.last else '') + m.content + '[/INST]' -}}\
    {%- elif m.role == 'assistant' -%}{{- m.content + '</s>' -}}{%- endif -%}{%- endfor -%}";

/// GLM: an empty thought in each earlier turn, trimmed texts, and no end token.
const NEVER_ENDS: &str = "{%- set ns = namespace(last=-1) -%}\
    {%- for m in messages -%}{%- if m.role == 'user' -%}{%- set ns.last = loop.index0 -%}{%- endif -%}{%- endfor -%}\
    {%- for m in messages -%}{{- '<|im_start|>' + m.role -}}{%- if m.role == 'assistant' -%}\
    {{- '\\n<think>' + ((m.reasoning_content or '').strip() if loop.index0 > ns.last else '') + '</think>' -}}{%- endif -%}\
    {{- '\\n' + m.content.strip() -}}{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|im_start|>assistant' -}}{%- endif -%}";

/// SmolLM3 without thoughts: the generation prompt holds the empty thought that each answer begins with. Gemma's
/// complaint about roles that do not alternate.
const PROMPTED_THOUGHT: &str = "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}\
    {{ raise_exception('roles must alternate') }}{% endif %}{{ '<start_of_turn>' + m.role + '\\n' }}\
    {% if m.role == 'assistant' %}{{ '<think>\\n\\n</think>\\n' }}{% endif %}{{ m.content | trim }}\
    {{ '</s>' if loop.last and not add_generation_prompt else '<end_of_turn>' }}{{ '\\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<start_of_turn>assistant\\n<think>\\n\\n</think>\\n' }}{% endif %}";

fn answers(source: &str, chat: &Chat) -> Vec<String> {
    spans(source, chat, TrainOn::Assistant).unwrap()
}

fn notes(source: &str, chat: &Chat) -> (bool, bool, bool) {
    let location = Location::new("rows.jsonl", 5);
    let (template, tokenizer) = (testing::template(source), testing::tokenizer());
    let rendered = render(&template, tokenizer.special_texts(), chat, TrainOn::Assistant, &location).unwrap();
    (rendered.rewritten, rendered.opened, rendered.lost_thought)
}

/// Two rounds, of which the answers have thoughts in `field`, or before their text.
fn thinking(field: Option<&str>) -> Chat {
    let mut talk = chat(&TALK);
    for (index, thought) in [(2, "t1"), (4, "t2")] {
        let fields = &mut talk.messages[index].fields;
        match field {
            Some(name) => fields.insert(name.into(), thought.into()),
            None => {
                let text = format!("<think>\n{thought}\n</think>\n\n{}", fields["content"].as_str().unwrap());
                fields.insert("content".into(), text.into())
            }
        };
    }
    talk
}

/// A question that is answered after two calls, and another one.
fn calling() -> Chat {
    let mut talk = chat(&[
        (Role::User, "u1"),
        (Role::Assistant, "look"),
        (Role::Tool, "{\"n\": 1}"),
        (Role::Assistant, ""),
        (Role::Tool, "two"),
        (Role::Assistant, "a1"),
        (Role::User, "u2"),
        (Role::Assistant, "a2"),
    ]);
    for (index, arguments) in [(1, json!({"x": 1})), (3, json!("{\"x\": 2}"))] {
        let call = json!([{"function": {"name": "f", "arguments": arguments}}]);
        talk.messages[index].fields.insert("tool_calls".into(), call);
    }
    talk
}

#[test]
fn thoughts_that_the_template_drops_are_not_trained_and_it_is_said() {
    let last = "<think>\nt2\n</think>\n\na2<|im_end|>";
    for talk in [thinking(None), thinking(Some("reasoning_content"))] {
        assert_eq!(answers(DROPS_THOUGHTS, &talk), ["a1<|im_end|>", last]);
        assert_eq!(notes(DROPS_THOUGHTS, &talk), (true, false, true));
        assert_eq!(spans(DROPS_THOUGHTS, &talk, TrainOn::Last).unwrap(), [last]);
    }
    let plain = chat(&TALK);
    assert_eq!(answers(DROPS_THOUGHTS, &plain), ["a1<|im_end|>", "<think>\n\n</think>\n\na2<|im_end|>"]);
    assert_eq!(notes(DROPS_THOUGHTS, &plain), (true, false, false));
    assert_eq!(notes(DROPS_THOUGHTS, &chat(&TALK[..3])), (false, false, false));
}

#[test]
fn calls_and_the_thoughts_before_them_are_of_the_answer() {
    let call =
        |n: u8| format!("\n<tool_call>\n{{\"name\": \"f\", \"arguments\": {{\"x\": {n}}}}}\n</tool_call><|im_end|>");
    let all = answers(DROPS_THOUGHTS, &calling());
    let last = "<think>\n\n</think>\n\na2<|im_end|>".to_string();
    assert_eq!(all, [format!("look{}", call(1)), call(2), "a1<|im_end|>".into(), last.clone()]);
    let mut talk = calling();
    talk.messages[3].fields.insert("reasoning_content".into(), "again".into());
    talk.messages[5].fields.insert("reasoning_content".into(), "done".into());
    assert_eq!(answers(DROPS_THOUGHTS, &talk), all);
    assert!(notes(DROPS_THOUGHTS, &talk).2);
    talk.messages.truncate(6);
    let all = answers(DROPS_THOUGHTS, &talk);
    let again = format!("<think>\nagain\n</think>\n\n{}", call(2));
    assert_eq!(all[1..], [again, "<think>\ndone\n</think>\n\na1<|im_end|>".to_string()]);
    assert!(!notes(DROPS_THOUGHTS, &talk).2);
}

#[test]
fn an_answer_begins_behind_the_header_that_the_generation_prompt_shares() {
    for talk in [chat(&TALK), chat(&TALK[1..])] {
        assert_eq!(answers(OPENS_A_THOUGHT, &talk), ["a1<|im_end|>", "a2<|im_end|>"]);
        assert_eq!(notes(OPENS_A_THOUGHT, &talk), (false, true, false));
    }
    assert_eq!(answers(OPENS_A_THOUGHT, &thinking(None)), ["\n\na1<|im_end|>", "\n\na2<|im_end|>"]);
    assert!(notes(OPENS_A_THOUGHT, &thinking(None)).2);
    // An answer that begins like the tag, and one that begins with it.
    let odd =
        chat(&[(Role::User, "[/INST]<"), (Role::Assistant, "<b>"), (Role::User, "?"), (Role::Assistant, "<think>\nx")]);
    assert_eq!(answers(OPENS_A_THOUGHT, &odd), ["<b><|im_end|>", "x<|im_end|>"]);
}

#[test]
fn every_family_trains_each_of_several_answers() {
    let [plain, thought] = [chat(&TALK), thinking(Some("reasoning_content"))];
    let shapes: [(&str, &Chat, [&str; 2]); 9] = [
        (CHANNELS, &plain, ["<|channel|>final<|message|>a1<|im_end|>", "<|channel|>final<|message|>a2</s>"]),
        (
            CHANNELS,
            &thought,
            [
                "<|channel|>final<|message|>a1<|im_end|>",
                "<|channel|>analysis<|message|>t2<|im_end|><|im_start|>assistant<|channel|>final<|message|>a2</s>",
            ],
        ),
        (ENDS_A_TEXT, &plain, ["a1<|im_end|>", "a2<|im_end|>\n</s>"]),
        (SYSTEM_IN_THE_LAST, &plain, ["a1</s>", "a2</s>"]),
        (NEVER_ENDS, &plain, ["\n<think></think>\na1", "\n<think></think>\na2"]),
        (NEVER_ENDS, &thought, ["\n<think></think>\na1", "\n<think>t2</think>\na2"]),
        (Builtin::Llama3.source(), &plain, ["a1<|eot_id|>", "a2<|eot_id|>"]),
        (Builtin::Mistral.source(), &plain, [" a1<|im_end|>", " a2<|im_end|>"]),
        (Builtin::ChatMl.source(), &thought, ["a1<|im_end|>", "a2<|im_end|>"]),
    ];
    for (source, talk, expected) in shapes {
        assert_eq!(answers(source, talk), expected, "{source}");
    }
    let prompted = answers(PROMPTED_THOUGHT, &chat(&TALK[1..]));
    assert_eq!(prompted, ["a1<end_of_turn>", "a2</s>"]);
}

#[test]
fn an_answer_that_is_not_written_is_refused_with_both_renderings_and_advice_that_helps() {
    let gone = "{% for m in messages %}<{{ m.content if loop.last or m.role == 'user' else 'gone' }}>{% endfor %}";
    let error = spans(gone, &chat(&TALK[1..]), TrainOn::Assistant).unwrap_err();
    for part in ["rows.jsonl:5: message 2", "a1>", "gone>", "train_on = \"last\""] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let none = "{% for m in messages %}<{{ m.content if m.role == 'user' }}>{% endfor %}{% if add_generation_prompt %}?{% endif %}";
    let error = spans(none, &chat(&TALK[1..]), TrainOn::Assistant).unwrap_err();
    assert!(!error.contains("train_on") && error.contains("{% generation %}"), "{error}");
}

/// The end of a line of `text` that [`DROPS_THOUGHTS`] keeps.
fn dropped(chat: &Chat, index: usize) -> String {
    let last_question = chat.messages.iter().rposition(|message| message.role == Role::User);
    let text = chat.messages[index].content().unwrap();
    let thought = match text.rsplit_once("</think>") {
        Some(_) => text.split("</think>").next().unwrap().rsplit("<think>").next().unwrap().trim_matches('\n'),
        None => "",
    };
    let text = match text.rsplit_once("</think>") {
        Some((_, text)) => text.trim_start_matches('\n'),
        None => text,
    };
    let is_last = index + 1 == chat.messages.len();
    if last_question.is_none_or(|last| index > last) && (is_last || !thought.is_empty()) {
        return format!("<think>\n{thought}\n</think>\n\n{}<|im_end|>", text.trim_start_matches('\n'));
    }
    format!("{text}<|im_end|>")
}

/// Messages of any roles in any order, with thoughts in some of them, of which at least one is an answer.
fn random_messages(rng: &mut ChaCha8Rng) -> Chat {
    let mut messages = Vec::new();
    for index in 0..1 + rng.next_u32() % 7 {
        let role = match rng.next_u32() % 5 {
            0 if index == 0 => Role::System,
            0 | 1 => Role::User,
            2 => Role::Tool,
            _ => Role::Assistant,
        };
        let mut text = random_text(rng);
        if rng.next_u32().is_multiple_of(9) {
            text.push('\u{fdd2}');
        }
        if role == Role::Assistant && rng.next_u32().is_multiple_of(3) {
            text = format!("<think>\n{}\n</think>\n\n{text}", random_text(rng));
        }
        messages.push(Message::new(role, text));
    }
    messages.push(Message::new(Role::Assistant, random_text(rng)));
    if rng.next_u32().is_multiple_of(4) {
        messages.push(Message::new(Role::User, random_text(rng)));
    }
    Chat { messages, tools: None, prompt_messages: None }
}

#[test]
fn answers_are_found_in_random_dialogues_whatever_a_template_makes_of_history() {
    let after_thought = |text: &str| text.rsplit("</think>").next().unwrap().to_string();
    let words = |chat: &Chat, index: usize| chat.messages[index].content().unwrap().to_string();
    let is_last = |chat: &Chat, index: usize| index + 1 == chat.messages.len();
    let opens = |chat: &Chat, index: usize| {
        let text = after_thought(&words(chat, index));
        format!("{}<|im_end|>", text.strip_prefix("<think>\n").unwrap_or(&text))
    };
    let channels = |chat: &Chat, index: usize| {
        let end = if is_last(chat, index) { "</s>" } else { "<|im_end|>" };
        format!("<|channel|>final<|message|>{}{end}", words(chat, index))
    };
    let ends = |chat: &Chat, index: usize| {
        format!("{}<|im_end|>{}", words(chat, index), if is_last(chat, index) { "\n</s>" } else { "" })
    };
    type Shown<'a> = &'a dyn Fn(&Chat, usize) -> String;
    let shapes: [(&str, Shown<'_>); 4] =
        [(DROPS_THOUGHTS, &dropped), (OPENS_A_THOUGHT, &opens), (CHANNELS, &channels), (ENDS_A_TEXT, &ends)];
    let tokenizer = testing::tokenizer();
    let location = Location::new("rows.jsonl", 1);
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    for (source, shown) in shapes {
        let template = testing::template(source);
        for _ in 0..200 {
            let chat = random_messages(&mut rng);
            let rendered = render(&template, tokenizer.special_texts(), &chat, TrainOn::Assistant, &location)
                .unwrap_or_else(|error| panic!("{error}: {:?}", chat.values()));
            let found: Vec<&str> = rendered.spans.iter().map(|span| &rendered.text[span.clone()]).collect();
            let expected: Vec<String> =
                wanted(&chat, TrainOn::Assistant).iter().map(|index| shown(&chat, *index)).collect();
            assert_eq!(found, expected, "{}", rendered.text);
        }
    }
}

#[test]
fn roles_are_shown_where_history_is_rewritten() {
    let (template, tokenizer) = (testing::template(DROPS_THOUGHTS), testing::tokenizer());
    let talk = thinking(None);
    let (text, _) = template.try_render(&talk.values(), None, false).unwrap();
    let mut start = 0;
    let parts = message_ends(&template, tokenizer.special_texts(), &talk, &text).into_iter().map(|(role, end)| {
        let part = &text[std::mem::replace(&mut start, end)..end];
        (role, part.to_string())
    });
    let part = |role: &str, text: &str| format!("<|im_start|>{role}\n{text}<|im_end|>\n");
    let expected = [
        (Role::System, part("system", "s")),
        (Role::User, part("user", "u1")),
        (Role::Assistant, part("assistant", "a1")),
        (Role::User, part("user", "u2")),
        (Role::Assistant, part("assistant", "<think>\nt2\n</think>\n\na2")),
    ];
    assert_eq!(parts.collect::<Vec<_>>(), expected);
}

#[test]
fn published_templates_train_the_answers_and_nothing_else() {
    let Some(folder) = std::env::var_os("FIREBRAND_TEMPLATES") else { return };
    let tokens =
        Regex::new(r"<\|[^|<>]+\|>|<｜[^｜]+｜>|</s>|\[/?[A-Z_]+\]|<(?:start|end)_of_turn>|<\|[a-z]+>").unwrap();
    let dialogues = published_dialogues();
    let (mut found, mut refused, mut wrong) = (0, Vec::new(), Vec::new());
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "jinja")) {
        let source = std::fs::read_to_string(path).unwrap();
        let mut special: Vec<String> = tokens.find_iter(&source).map(|token| token.as_str().to_string()).collect();
        special.extend(["</s>".to_string(), "<|im_end|>".to_string()]);
        let special: Vec<String> = std::collections::BTreeSet::from_iter(special).into_iter().collect();
        let template = testing::template(&source);
        for (name, chat) in &dialogues {
            let values = calls::values(&template, chat);
            let Ok((text, _)) = template.try_render(&values, chat.tools.as_deref(), false) else { continue };
            let case = format!("{} / {name}", path.file_stem().unwrap().to_string_lossy());
            let rendered = match render(&template, &special, chat, TrainOn::Assistant, &Location::new(&case, 1)) {
                Ok(rendered) => rendered,
                Err(error) => {
                    refused.push(error.to_string());
                    continue;
                }
            };
            found += 1;
            let said: Vec<&str> = rendered.spans.iter().map(|span| &text[span.clone()]).collect();
            if std::env::var_os("FIREBRAND_SHOW").is_some() {
                println!("{case} {:?}\n    {said:?}", (rendered.rewritten, rendered.opened, rendered.lost_thought));
            }
            let answers = chat.messages.iter().filter(|message| message.role == Role::Assistant);
            if template.marks_generation(chat.tools.is_some()) {
                continue;
            }
            for (message, said) in answers.zip(&said) {
                let own = message.content().unwrap().rsplit("\n").next().unwrap();
                let others = chat.messages.iter().filter(|other| *other != message);
                let others = others.filter_map(|other| other.content()?.rsplit("\n").next());
                if !said.contains(own) || others.filter(|other| !other.is_empty()).any(|other| said.contains(other)) {
                    wrong.push(format!("{case}: {said:?} in {text:?}"));
                }
            }
        }
    }
    println!("{found} dialogues are found, {} refused\n{}", refused.len(), refused.join("\n"));
    assert!(wrong.is_empty(), "{} are wrong\n{}", wrong.len(), wrong.join("\n"));
}

/// Dialogues of one, two and three answers, with thoughts and calls. Each message says a word of its own.
fn published_dialogues() -> Vec<(&'static str, Chat)> {
    let rounds = [
        (Role::User, "question-one"),
        (Role::Assistant, "answer-one"),
        (Role::User, "question-two"),
        (Role::Assistant, "answer-two"),
        (Role::User, "question-three"),
        (Role::Assistant, "answer-three"),
    ];
    let with = |field: Option<&str>| {
        let mut talk = chat(&rounds);
        for index in [1, 3, 5] {
            let fields = &mut talk.messages[index].fields;
            let text = fields["content"].as_str().unwrap().replace("answer", "thought");
            match field {
                Some(name) => fields.insert(name.into(), text.into()),
                None => {
                    let text = format!("<think>\n{text}\n</think>\n\n{}", fields["content"].as_str().unwrap());
                    fields.insert("content".into(), text.into())
                }
            };
        }
        talk
    };
    let mut system = chat(&rounds);
    system.messages.insert(0, Message::new(Role::System, "be-brief"));
    let mut calls = chat(&rounds);
    let mut call = Message::new(Role::Assistant, "");
    let function = json!({"name": "weather", "arguments": {"city": "Oslo"}});
    call.fields.insert("tool_calls".into(), json!([{"id": "abcdefghi", "type": "function", "function": function}]));
    let mut result = Message::new(Role::Tool, "result-one");
    result.fields.insert("tool_call_id".into(), "abcdefghi".into());
    result.fields.insert("name".into(), "weather".into());
    calls.messages.splice(1..1, [call.clone(), result.clone()]);
    calls.tools = Some(vec![json!({"type": "function", "function": {
        "name": "weather", "description": "The weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    }})]);
    let mut thinking_calls = with(Some("reasoning_content"));
    call.fields.insert("reasoning_content".into(), "thought-call".into());
    thinking_calls.messages.splice(3..3, [call, result]);
    thinking_calls.tools = calls.tools.clone();
    vec![
        ("one", chat(&rounds[..2])),
        ("three", chat(&rounds)),
        ("system", system),
        ("thoughts", with(None)),
        ("reasoning", with(Some("reasoning_content"))),
        ("calls", calls),
        ("thinking calls", thinking_calls),
        ("assistant first", chat(&rounds[1..])),
        ("question last", chat(&rounds[..5])),
        ("twice", chat(&[rounds[0], rounds[1], rounds[3], rounds[4], rounds[5]])),
    ]
}
