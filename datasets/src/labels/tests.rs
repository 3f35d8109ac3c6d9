//! Spans and labels: what is trained is the assistant's words and its end token, and nothing else.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde_json::{Map, Value, json};

use super::*;
use crate::record::Message;
use crate::template::{Builtin, calls};
use crate::testing;
use crate::tokenizer::Tokenizer;

mod history;

const SMOLLM2_LIKE: &str = "{% for m in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\
    {{ '<|im_start|>system\nYou are kind<|im_end|>\n' }}{% endif %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}\
    {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

fn chat(messages: &[(Role, &str)]) -> Chat {
    Chat {
        messages: messages.iter().map(|(role, text)| Message::new(*role, *text)).collect(),
        tools: None,
        prompt_messages: None,
    }
}

fn spans(source: &str, chat: &Chat, train_on: TrainOn) -> Result<Vec<String>, String> {
    let tokenizer = testing::tokenizer();
    let location = Location::new("rows.jsonl", 5);
    let template = testing::template(source);
    let rendered =
        render(&template, tokenizer.special_texts(), chat, train_on, &location).map_err(|e| e.to_string())?;
    Ok(rendered.spans.iter().map(|span| rendered.text[span.clone()].to_string()).collect())
}

const TALK: [(Role, &str); 5] =
    [(Role::System, "s"), (Role::User, "u1"), (Role::Assistant, "a1"), (Role::User, "u2"), (Role::Assistant, "a2")];

#[test]
fn prefix_spans_hold_the_answer_and_its_end_token() {
    for source in [SMOLLM2_LIKE, Builtin::ChatMl.source()] {
        let all = spans(source, &chat(&TALK), TrainOn::Assistant).unwrap();
        assert_eq!(all, ["a1<|im_end|>", "a2<|im_end|>"]);
    }
    let gemma = spans(Builtin::Gemma.source(), &chat(&TALK), TrainOn::Assistant).unwrap();
    assert_eq!(gemma, ["a1<end_of_turn>", "a2<end_of_turn>"]);
}

#[test]
fn a_default_system_prompt_does_not_move_the_spans() {
    let all = spans(SMOLLM2_LIKE, &chat(&TALK[1..]), TrainOn::Assistant).unwrap();
    assert_eq!(all, ["a1<|im_end|>", "a2<|im_end|>"]);
}

#[test]
fn train_on_chooses_the_turns() {
    let of = |chat: &Chat, train_on| spans(Builtin::ChatMl.source(), chat, train_on).unwrap();
    assert_eq!(of(&chat(&TALK), TrainOn::Last), ["a2<|im_end|>"]);
    let mut calls = TALK.to_vec();
    calls.extend([(Role::Tool, "t"), (Role::Assistant, "a3")]);
    assert_eq!(of(&chat(&calls), TrainOn::Completion), ["a2<|im_end|>", "a3<|im_end|>"]);
    let whole = of(&chat(&TALK), TrainOn::All);
    assert_eq!(whole.len(), 1);
    assert!(whole[0].starts_with("<|im_start|>system") && whole[0].ends_with("<|im_end|>\n"));
    let mut completion = chat(&TALK);
    completion.prompt_messages = Some(4);
    assert_eq!(of(&completion, TrainOn::Assistant), ["a2<|im_end|>"]);
}

#[test]
fn a_message_can_be_left_out() {
    let mut talk = chat(&TALK);
    talk.messages[2].train = Some(false);
    let source = Builtin::ChatMl.source();
    assert_eq!(spans(source, &talk, TrainOn::Assistant).unwrap(), ["a2<|im_end|>"]);
    let error = spans(source, &talk, TrainOn::All).unwrap_err();
    assert!(error.contains("rows.jsonl:5") && error.contains("message 3"), "{error}");
}

#[test]
fn whitespace_that_ends_a_turn_without_a_control_token_is_trained() {
    let source = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";
    let all = spans(source, &chat(&TALK), TrainOn::Assistant).unwrap();
    assert_eq!(all, ["a1\n\n", "a2\n\n"]);
}

#[test]
fn prefixes_that_do_not_nest_are_an_error_that_names_row_and_message() {
    let rewrites = "{% for m in messages %}<{{ m.content if loop.last or m.role == 'user' else 'gone' }}>{% endfor %}";
    let error = spans(rewrites, &chat(&TALK[1..]), TrainOn::Assistant).unwrap_err();
    assert!(error.contains("rows.jsonl:5: message 2"), "{error}");
    assert_eq!(spans(rewrites, &chat(&TALK[1..]), TrainOn::Last).unwrap(), ["<a2>"]);
    // What changes stands before what is said, so the answers are where they were.
    let counts = "{{ messages | length }}{% for m in messages %}<{{ m.content }}>{% endfor %}";
    assert_eq!(spans(counts, &chat(&TALK), TrainOn::Assistant).unwrap(), ["<a1>", "<a2>"]);
    let thought = "{% for m in messages %}{{ '<' + m.role + '>' }}{{ m.content if loop.last or m.role != 'assistant' else '-' }}|{% endfor %}\
        {% if add_generation_prompt %}<assistant>{% endif %}";
    assert!(spans(thought, &chat(&TALK), TrainOn::Assistant).is_err());
    assert_eq!(spans(thought, &chat(&TALK), TrainOn::Last).unwrap(), ["a2|"]);
}

#[test]
fn generation_blocks_are_taken_as_they_are() {
    let source = "{% for m in messages %}{% if m.role == 'assistant' %}A:{% generation %}{{ m.content }}<|im_end|>\n{% endgeneration %}\
        {% else %}{{ m.content }};{% endif %}{% endfor %}";
    let of = |train_on| spans(source, &chat(&TALK), train_on).unwrap();
    // The newline after the tag is the template's layout; jinja removes the first one after a block.
    assert_eq!(of(TrainOn::Assistant), ["a1<|im_end|>\n", "a2<|im_end|>\n"]);
    assert_eq!(of(TrainOn::Last), ["a2<|im_end|>\n"]);
}

#[test]
fn several_blocks_of_a_message_stay_together() {
    let source = "{% for m in messages %}{% if m.role == 'assistant' %}{% if m.reasoning_content %}{% generation %}({{ m.reasoning_content }})\
        {% endgeneration %}{% endif %}{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}";
    let mut talk = chat(&TALK);
    talk.messages[4].fields.insert("reasoning_content".into(), "why".into());
    assert_eq!(spans(source, &talk, TrainOn::Assistant).unwrap(), ["a1", "(why)", "a2"]);
    assert_eq!(spans(source, &talk, TrainOn::Last).unwrap(), ["(why)", "a2"]);
    talk.messages[4].train = Some(false);
    assert_eq!(spans(source, &talk, TrainOn::Assistant).unwrap(), ["a1"]);
}

#[test]
fn a_token_is_trained_when_it_starts_inside_a_span() {
    let encoding = Encoding { ids: vec![1, 2, 3, 4, 5, 6], offsets: vec![0..0, 0..4, 4..8, 8..11, 11..12, 12..14] };
    // The span begins inside the token 4..8 and ends with the token 11..12; the token 12..14 comes after it.
    assert_eq!(labels(&encoding, std::slice::from_ref(&(5..12))), [-100, -100, -100, 4, 5, -100]);
    assert_eq!(labels(&encoding, &[0..2, 11..13]), [1, 2, -100, -100, 5, 6]);
    assert_eq!(labels(&encoding, &[]), [-100; 6]);
}

/// Words, unicode, whitespace and text that looks like a template's, without control tokens.
fn random_text(rng: &mut ChaCha8Rng) -> String {
    const PIECES: [&str; 36] = [
        "hello",
        " the",
        " fox",
        "\n",
        "  ",
        "Grüße",
        "世界",
        "🦀",
        ".",
        "?!",
        " {{ x }}",
        "{% if %}",
        "<b>",
        "\t",
        "42",
        "'",
        "\\n",
        "end",
        "<|im_end",
        "|>",
        "<|im_",
        "start|",
        "</s",
        " ASSISTANT: ",
        "USER:",
        "### Response:\n",
        "assistant\n",
        "[INST",
        "<<SYS>>",
        "<human>: ",
        "\r\n",
        "\u{feff}",
        "e\u{301}",
        "\u{200d}",
        "\u{a0}",
        "\\",
    ];
    const CONTROL: [&str; 8] =
        ["<|im_end|>", "<|im_start|>", "</s>", "[INST]", "[/INST]", "<|eot_id|>", "<end_of_turn>", "<start_of_turn>"];
    let count = rng.next_u32() % 13;
    let mut text = String::new();
    for _ in 0..count {
        let piece = PIECES[(rng.next_u32() as usize) % PIECES.len()];
        let before = text.len();
        text.push_str(piece);
        // Two pieces may happen to spell a control token. The gate reports those; here they are left out.
        if CONTROL.iter().any(|control| text.contains(control)) {
            text.truncate(before);
        }
    }
    text
}

/// A dialogue of one to four rounds, perhaps with an (often empty) system prompt.
fn random_chat(rng: &mut ChaCha8Rng) -> Chat {
    let mut messages = Vec::new();
    match rng.next_u32() % 4 {
        0 => messages.push(Message::new(Role::System, random_text(rng))),
        1 => messages.push(Message::new(Role::System, "")),
        _ => {}
    }
    for _ in 0..1 + rng.next_u32() % 4 {
        messages.push(Message::new(Role::User, random_text(rng)));
        messages.push(Message::new(Role::Assistant, random_text(rng)));
    }
    Chat { messages, tools: None, prompt_messages: None }
}

/// The texts of runs of labelled tokens.
fn trained_texts(tokenizer: &Tokenizer, encoding: &Encoding, labels: &[i64]) -> Vec<String> {
    let mut runs: Vec<Vec<u32>> = Vec::new();
    let mut open = false;
    for (id, label) in encoding.ids.iter().zip(labels) {
        let trained = *label != NOT_TRAINED;
        match (trained, open) {
            (true, false) => runs.push(vec![*id]),
            (true, true) => runs.last_mut().unwrap().push(*id),
            _ => {}
        }
        open = trained;
    }
    runs.iter().map(|run| tokenizer.decode(run, false).unwrap()).collect()
}

/// A template, the end of its turns, and the function that turns a message's text into its trained text.
type Shape<'a> = (&'a str, &'a str, &'a dyn Fn(&str) -> String);

const MARKED: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}{% generation %}\
    {{ m.content + '<|im_end|>' }}{% endgeneration %}{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// The messages that should be trained by `train_on`, without those that are left out.
fn wanted(chat: &Chat, train_on: TrainOn) -> Vec<usize> {
    let is_answer = |index: &usize| chat.messages[*index].role == Role::Assistant;
    let last_question = chat.messages.iter().rposition(|message| message.role == Role::User);
    let all: Vec<usize> = (0..chat.messages.len())
        .filter(is_answer)
        .filter(|index| chat.prompt_messages.is_none_or(|prompt| *index >= prompt))
        .collect();
    let chosen: Vec<usize> = match train_on {
        TrainOn::Assistant | TrainOn::All => all,
        TrainOn::Last => all.last().copied().into_iter().collect(),
        TrainOn::Completion if chat.prompt_messages.is_some() => all,
        TrainOn::Completion => all.into_iter().filter(|index| Some(*index) > last_question).collect(),
    };
    let kept = |index: &usize| {
        let message = &chat.messages[*index];
        message.train != Some(false) && message.weight != Some(0.0)
    };
    chosen.into_iter().filter(kept).collect()
}

#[test]
fn labels_cover_exactly_what_is_asked_for_in_random_dialogues() {
    let trims = |text: &str| text.trim().to_string();
    let keeps = |text: &str| text.to_string();
    let after_a_space = |text: &str| format!(" {}", text.trim());
    let between_spaces = |text: &str| format!(" {} ", text.trim());
    let shapes: [Shape<'_>; 14] = [
        (SMOLLM2_LIKE, "<|im_end|>", &keeps),
        (MARKED, "<|im_end|>", &keeps),
        (Builtin::ChatMl.source(), "<|im_end|>", &keeps),
        (Builtin::Llama3.source(), "<|eot_id|>", &trims),
        (Builtin::Llama2.source(), "<|im_end|>", &between_spaces),
        (Builtin::Mistral.source(), "<|im_end|>", &after_a_space),
        (Builtin::Gemma.source(), "<end_of_turn>", &trims),
        (Builtin::Zephyr.source(), "<|im_end|>", &keeps),
        (Builtin::Vicuna.source(), "<|im_end|>", &after_a_space),
        (Builtin::Alpaca.source(), "<|im_end|>", &trims),
        // `<|end|>` is no control token of this tokenizer, so the newline after it is text.
        (Builtin::Phi3.source(), "<|end|>\n", &keeps),
        (Builtin::Falcon.source(), "<|im_end|>", &after_a_space),
        (Builtin::RedPajama.source(), "<|im_end|>", &after_a_space),
        (Builtin::Olmo2.source(), "<|im_end|>", &keeps),
    ];
    let tokenizer = testing::tokenizer();
    let location = Location::new("rows.jsonl", 1);
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for (source, end, shown) in shapes {
        let template = testing::template(source);
        for round in 0..160 {
            let mut chat = random_chat(&mut rng);
            let train_on = [TrainOn::Assistant, TrainOn::Last, TrainOn::Completion, TrainOn::All][round % 4];
            if train_on != TrainOn::All {
                if rng.next_u32().is_multiple_of(4) {
                    // The prompt must end before an answer.
                    let answers = chat.messages.iter().filter(|message| message.role == Role::Assistant).count();
                    let answer = rng.next_u32() as usize % answers;
                    chat.prompt_messages = Some(chat.messages.len() - 1 - 2 * answer);
                }
                for message in chat.messages.iter_mut().filter(|message| message.role == Role::Assistant) {
                    match rng.next_u32() % 6 {
                        0 => message.train = Some(false),
                        1 => message.weight = Some(0.0),
                        2 => message.weight = Some(0.25),
                        _ => {}
                    }
                }
            }
            let rendered = render(&template, tokenizer.special_texts(), &chat, train_on, &location).unwrap();
            let encoding = tokenizer.encode_with_offsets(&rendered.text, false).unwrap();
            let labels = labels(&encoding, &rendered.spans);
            for (id, label) in encoding.ids.iter().zip(&labels) {
                assert!(*label == NOT_TRAINED || *label == i64::from(*id));
            }
            let wanted = wanted(&chat, train_on);
            let expected: Vec<String> = match train_on {
                TrainOn::All => vec![rendered.text.clone()],
                _ => wanted.iter().map(|index| shown(chat.messages[*index].content().unwrap()) + end).collect(),
            };
            assert_eq!(trained_texts(&tokenizer, &encoding, &labels), expected, "{train_on:?} {}", rendered.text);
            assert_eq!(tokenizer.decode(&encoding.ids, false).unwrap(), rendered.text);
            if train_on != TrainOn::All {
                let weights: Vec<f32> =
                    wanted.iter().map(|index| chat.messages[*index].weight.unwrap_or(1.0)).collect();
                assert_eq!(rendered.factors, weights);
            }
        }
    }
}

#[test]
fn tools_reach_every_prefix() {
    let source = "{% if tools %}[{{ tools | length }}]{% endif %}{% for m in messages %}{{ m.content }}{{ '<|im_end|>' if m.role == 'assistant' }}{% endfor %}";
    let mut talk = chat(&TALK);
    talk.tools = Some(vec![Value::Object(Map::new()), json!({"a": 1})]);
    assert_eq!(spans(source, &talk, TrainOn::Assistant).unwrap(), ["a1<|im_end|>", "a2<|im_end|>"]);
}

#[derive(serde::Deserialize)]
struct Masks {
    tokenizer: Option<std::path::PathBuf>,
    templates: std::collections::BTreeMap<String, String>,
    cases: Vec<Mask>,
    texts: Vec<Text>,
}

#[derive(serde::Deserialize)]
struct Mask {
    template: String,
    messages: Vec<Map<String, Value>>,
    input_ids: Vec<u32>,
    mask: Vec<u8>,
}

#[derive(serde::Deserialize)]
struct Text {
    text: String,
    input_ids: Vec<u32>,
}

#[test]
fn tokens_and_masks_equal_the_references() {
    let mut paths = vec![testing::data().join("masks.json")];
    paths.extend(std::env::var_os("FIREBRAND_MASK_GOLDENS").map(Into::into));
    for path in paths {
        let golden: Masks = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let folder = golden.tokenizer.unwrap_or_else(|| testing::data().join("tokenizer"));
        let tokenizer = Tokenizer::from_folder(&folder).unwrap();
        for text in &golden.texts {
            assert_eq!(tokenizer.encode(&text.text, true).unwrap(), text.input_ids, "{:?}", text.text);
        }
        for case in &golden.cases {
            let source = &golden.templates[&case.template];
            let template = ChatTemplate::from_source("golden", source, tokenizer.special(), None).unwrap();
            let role = |fields: &Map<String, Value>| Role::by_name(fields["role"].as_str().unwrap()).unwrap();
            let messages = case.messages.iter();
            let chat = Chat {
                messages: messages
                    .map(|fields| Message { role: role(fields), train: None, weight: None, fields: fields.clone() })
                    .collect(),
                tools: None,
                prompt_messages: None,
            };
            let location = Location::new("golden", 1);
            let rendered = render(&template, tokenizer.special_texts(), &chat, TrainOn::Assistant, &location).unwrap();
            let encoding = tokenizer.encode_with_offsets(&rendered.text, false).unwrap();
            assert_eq!(encoding.ids, case.input_ids);
            let trained: Vec<u8> =
                labels(&encoding, &rendered.spans).iter().map(|label| u8::from(*label != NOT_TRAINED)).collect();
            assert_eq!(trained, case.mask, "{}", rendered.text);
        }
    }
}
