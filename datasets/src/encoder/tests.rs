//! Records become tokens, labels and weights, and truncation leaves the right part of them.

use super::*;
use crate::example::rows;
use crate::testing;

fn location() -> Location {
    Location::new("rows.jsonl", 3)
}

fn record(content: Content) -> Record {
    Record { content, weight: 1.0 }
}

fn encoder(tokenizer: &Tokenizer, template: Option<&ChatTemplate>) -> Encoder {
    Encoder {
        tokenizer: Some(tokenizer.clone()),
        template: template.cloned(),
        pictures: None,
        system: None,
        train_on: TrainOn::Assistant,
        truncation: Truncation::KeepStart,
        max_length: 512,
        keep_text: true,
    }
}

fn one(encoder: &Encoder, content: Content) -> Example {
    match encoder.encode(&record(content), &location(), 0).unwrap() {
        Encoded::Examples(mut examples) => {
            assert_eq!(examples.len(), 1);
            examples.remove(0)
        }
        other => panic!("{other:?}"),
    }
}

fn text(text: &str) -> Content {
    Content::Text(text.into())
}

fn completion(prompt: &str, completion: &str) -> Content {
    Content::Completion { prompt: prompt.into(), completion: completion.into() }
}

fn talk(answer: &str) -> Content {
    Content::Chat(Chat {
        messages: vec![Message::new(Role::User, "Hello?"), Message::new(Role::Assistant, answer)],
        tools: None,
        prompt_messages: None,
    })
}

/// The text of the labelled tokens.
fn trained(tokenizer: &Tokenizer, example: &Example) -> String {
    let ids: Vec<u32> =
        example.tokens().unwrap().labels.iter().filter(|label| **label >= 0).map(|label| *label as u32).collect();
    tokenizer.decode(&ids, false).unwrap()
}

#[test]
fn text_rows_are_trained_whole_and_end_with_eos() {
    let tokenizer = testing::tokenizer();
    let example = one(&encoder(&tokenizer, None), text("The sky is blue."));
    assert_eq!(tokenizer.decode(&example.tokens().unwrap().input_ids, false).unwrap(), "The sky is blue.<|im_end|>");
    assert!(
        example
            .tokens()
            .unwrap()
            .input_ids
            .iter()
            .zip(&example.tokens().unwrap().labels)
            .all(|(id, label)| i64::from(*id) == *label)
    );
    let spelled = one(&encoder(&tokenizer, None), text("The sky is blue.<|im_end|>"));
    assert_eq!(spelled.tokens().unwrap().input_ids, example.tokens().unwrap().input_ids);
}

#[test]
fn text_rows_begin_with_bos_where_the_tokenizer_adds_it() {
    let dir = testing::tokenizer_folder_with_bos();
    let tokenizer = Tokenizer::from_folder(dir.path()).unwrap();
    for (content, shown) in
        [(text("hello"), "<s>hello</s>"), (text("<s>hello"), "<s>hello</s>"), (completion("2+2=", "4"), "<s>2+2=4</s>")]
    {
        let example = one(&encoder(&tokenizer, None), content);
        assert_eq!(tokenizer.decode(&example.tokens().unwrap().input_ids, false).unwrap(), shown);
    }
    // A chat template writes BOS itself, or the model gets none.
    let bare = testing::template("{% for m in messages %}{{ m.content }}</s>{% endfor %}");
    let example = one(&encoder(&tokenizer, Some(&bare)), talk("Hi"));
    assert_eq!(tokenizer.decode(&example.tokens().unwrap().input_ids, false).unwrap(), "Hello?</s>Hi</s>");
}

/// GLM's way: nothing stands behind an answer, and generation stops at the header of the next turn.
#[test]
fn an_answer_ends_with_the_header_at_which_generation_stops() {
    let dir = testing::tokenizer_folder(r#"{"eos_token": "</s>"}"#);
    let header = Tokenizer::from_folder(dir.path()).unwrap().token_to_id("[INST]").unwrap();
    std::fs::write(dir.path().join("generation_config.json"), format!(r#"{{"eos_token_id": [{header}]}}"#)).unwrap();
    let tokenizer = Tokenizer::from_folder(dir.path()).unwrap();
    let template = testing::template(
        "{% for m in messages %}{{ '[INST]' if m.role == 'user' else '<|im_start|>' }}{{ m.content }}{% endfor %}\
         {% if add_generation_prompt %}<|im_start|>{% endif %}",
    );
    let say = |role: Role, content: &str| Message::new(role, content);
    let messages = vec![
        say(Role::User, "one?"),
        say(Role::Assistant, "two"),
        say(Role::User, "three?"),
        say(Role::Assistant, "four"),
    ];
    let chat = Content::Chat(Chat { messages, tools: None, prompt_messages: None });
    let example = one(&encoder(&tokenizer, Some(&template)), chat);
    let tokens = example.tokens().unwrap();
    assert_eq!(
        tokenizer.decode(&tokens.input_ids, false).unwrap(),
        "[INST]one?<|im_start|>two[INST]three?<|im_start|>four[INST]"
    );
    assert_eq!(trained(&tokenizer, &example), "two[INST]four[INST]");
    assert_eq!((example.notes.unended, example.notes.end), (0, Some(header)));
}

#[test]
fn the_prompt_of_a_completion_is_not_trained() {
    let tokenizer = testing::tokenizer();
    let mut encoder = encoder(&tokenizer, None);
    let example = one(&encoder, completion("Question: where?\nAnswer:", " by the river"));
    assert_eq!(trained(&tokenizer, &example), " by the river<|im_end|>");
    assert!(!example.notes.straddles);
    encoder.train_on = TrainOn::All;
    let example = one(&encoder, completion("Question: where?\nAnswer:", " by the river"));
    assert_eq!(example.labelled_tokens() + 1, example.tokens().unwrap().input_ids.len());
}

#[test]
fn a_token_across_prompt_and_completion_is_noted_and_not_trained() {
    let tokenizer = testing::tokenizer();
    let example = one(&encoder(&tokenizer, None), completion("where is ", "the river"));
    assert!(example.notes.straddles);
    assert_eq!(trained(&tokenizer, &example), " river<|im_end|>");
}

#[test]
fn chats_carry_text_roles_and_their_end_token() {
    let tokenizer = testing::tokenizer();
    let template = testing::template(Builtin::ChatMl.source());
    let example = one(&encoder(&tokenizer, Some(&template)), talk("Fine."));
    assert_eq!(trained(&tokenizer, &example), "Fine.<|im_end|>");
    assert_eq!(
        example.tokens().unwrap().text.as_deref(),
        Some("<|im_start|>user\nHello?<|im_end|>\n<|im_start|>assistant\nFine.<|im_end|>\n")
    );
    let roles = example.tokens().unwrap().roles.as_ref().unwrap();
    assert_eq!(roles.len(), example.tokens().unwrap().input_ids.len());
    assert_eq!((roles[0], *roles.last().unwrap()), (Some(Role::User), Some(Role::Assistant)));
    assert_eq!(example.notes.end, tokenizer.token_to_id("<|im_end|>"));
    assert_eq!((example.notes.unended, example.notes.empty), (0, (0, 0)));
}

#[test]
fn weights_follow_the_row_where_it_is_trained() {
    let tokenizer = testing::tokenizer();
    let template = testing::template(Builtin::ChatMl.source());
    let heavy = Record { content: talk("Fine."), weight: 2.5 };
    let Encoded::Examples(examples) = encoder(&tokenizer, Some(&template)).encode(&heavy, &location(), 0).unwrap()
    else {
        panic!("dropped")
    };
    for (label, weight) in examples[0].tokens().unwrap().labels.iter().zip(&examples[0].tokens().unwrap().weights) {
        assert_eq!(*weight, if *label == NOT_TRAINED { 0.0 } else { 2.5 });
    }
}

#[test]
fn a_message_has_a_weight_of_its_own() {
    let tokenizer = testing::tokenizer();
    let marked = "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}\
        {% else %}{{ m.content }}{% endif %}{% endfor %}";
    for source in [Builtin::ChatMl.source(), marked] {
        let template = testing::template(source);
        let said = |text: &str, weight| Message { weight, ..Message::new(Role::Assistant, text) };
        let messages = vec![
            Message::new(Role::User, "Hello?"),
            said("one", Some(0.5)),
            Message::new(Role::User, "And?"),
            said("two", Some(0.0)),
            Message::new(Role::User, "Then?"),
            said("three", None),
        ];
        let chat = Content::Chat(Chat { messages, tools: None, prompt_messages: None });
        let record = Record { content: chat, weight: 3.0 };
        let encoded = encoder(&tokenizer, Some(&template)).encode(&record, &location(), 0).unwrap();
        let example = &encoded.into_examples()[0];
        let with = |weight: f32| {
            let of = example
                .tokens()
                .unwrap()
                .weights
                .iter()
                .zip(&example.tokens().unwrap().input_ids)
                .filter(|(found, _)| **found == weight);
            tokenizer.decode(&of.map(|(_, id)| *id).collect::<Vec<_>>(), false).unwrap()
        };
        assert_eq!((with(1.5).as_str(), with(3.0).as_str()), ("one<|im_end|>", "three<|im_end|>"));
        assert_eq!(trained(&tokenizer, example), "one<|im_end|>three<|im_end|>");
    }
}

/// A pair of answers to one question, as messages.
fn pair(chosen: &str, rejected: &str) -> Content {
    let answered = |text: &str| {
        let messages = vec![Message::new(Role::User, "Hello?"), Message::new(Role::Assistant, text)];
        Answered::Chat(Chat { messages, tools: None, prompt_messages: Some(1) })
    };
    Content::Preference { chosen: answered(chosen), rejected: answered(rejected) }
}

#[test]
fn a_pair_is_two_examples_that_train_their_answers_only() {
    let tokenizer = testing::tokenizer();
    let template = testing::template(Builtin::ChatMl.source());
    let plain = |completion: &str| Answered::Plain { prompt: "2+2=".into(), completion: completion.into() };
    for train_on in [TrainOn::Assistant, TrainOn::Last, TrainOn::Completion, TrainOn::All] {
        let encoder = Encoder { train_on, ..encoder(&tokenizer, Some(&template)) };
        for content in [pair("4", "5"), Content::Preference { chosen: plain("4"), rejected: plain("5") }] {
            let Encoded::Pair { chosen, rejected } = encoder.encode(&record(content), &location(), 0).unwrap() else {
                panic!("a pair")
            };
            assert_eq!((chosen.part, rejected.part), (Part::Chosen, Part::Rejected));
            assert_eq!(trained(&tokenizer, &chosen), "4<|im_end|>");
            assert_eq!(trained(&tokenizer, &rejected), "5<|im_end|>");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&chosen.json().unwrap()).unwrap()["part"], "chosen");
        }
        for (judgement, part) in [(Judgement::Good, Part::Good), (Judgement::Bad, Part::Bad)] {
            let content = Content::Unpaired { answered: plain("4"), judgement };
            let example = one(&encoder, content);
            assert_eq!((example.part, trained(&tokenizer, &example).as_str()), (part, "4<|im_end|>"));
        }
    }
}

/// No tokenizer is there, so nothing can be put around the tokens; nothing is noted of text.
#[test]
fn answers_in_tokens_are_taken_as_they_are_and_their_prompts_train_nothing() {
    let answer = |answer: &[u32]| Answered::Tokens { prompt: vec![5, 6], answer: answer.to_vec() };
    for train_on in [TrainOn::Assistant, TrainOn::Last, TrainOn::Completion, TrainOn::All] {
        let encoder = Encoder {
            tokenizer: None,
            template: None,
            pictures: None,
            system: None,
            train_on,
            truncation: Truncation::KeepStart,
            max_length: 4,
            keep_text: true,
        };
        let content = Content::Preference { chosen: answer(&[7]), rejected: answer(&[8, 9, 1]) };
        let pair = encoder.encode(&record(content), &location(), 0).unwrap().into_examples();
        let tokens: Vec<_> = pair.iter().map(|example| example.tokens().unwrap()).collect();
        assert_eq!((&tokens[0].input_ids[..], &tokens[0].labels[..]), (&[5, 6, 7][..], &[-100, -100, 7][..]));
        // Cut where max_length ends.
        assert_eq!((&tokens[1].input_ids[..], &tokens[1].labels[..]), (&[5, 6, 8, 9][..], &[-100, -100, 8, 9][..]));
        assert_eq!((pair[0].part, pair[1].part), (Part::Chosen, Part::Rejected));
        let labelled = Notes { labelled_before: 1, ..Notes::default() };
        assert_eq!(pair[0].notes, labelled);
        let content = Content::Unpaired { answered: answer(&[7]), judgement: Judgement::Bad };
        let example = one(&encoder, content);
        assert_eq!((example.part, &example.tokens().unwrap().labels[..]), (Part::Bad, &[-100, -100, 7][..]));
    }
}

#[test]
fn a_pair_is_dropped_as_a_whole_and_each_of_it_cut_by_itself() {
    let tokenizer = testing::tokenizer();
    let template = testing::template(Builtin::ChatMl.source());
    let mut encoder = Encoder { max_length: 30, truncation: Truncation::Drop, ..encoder(&tokenizer, Some(&template)) };
    let long = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen";
    for content in [pair("4", long), pair(long, "4")] {
        let encoded = encoder.encode(&record(content), &location(), 0).unwrap();
        assert!(matches!(encoded, Encoded::Dropped { .. }), "{encoded:?}");
    }
    encoder.truncation = Truncation::Split;
    let examples = encoder.encode(&record(pair("4", long)), &location(), 0).unwrap().into_examples();
    assert!(examples[0].notes.cut_from.is_none() && examples[1].notes.cut_from.is_some());
    assert_eq!(examples[1].tokens().unwrap().input_ids.len(), 30);
    assert_eq!(rows(&[&examples[..], &examples[..]].concat()).map(<[Example]>::len).collect::<Vec<_>>(), [2, 2]);
}

#[test]
fn a_turn_without_an_end_token_and_an_empty_message_are_noted() {
    let tokenizer = testing::tokenizer();
    let bare = testing::template(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}",
    );
    let example = one(&encoder(&tokenizer, Some(&bare)), talk("Fine."));
    assert_eq!(example.notes.unended, 1);
    let template = testing::template(Builtin::ChatMl.source());
    let example = one(&encoder(&tokenizer, Some(&template)), talk(" "));
    assert_eq!(example.notes.empty, (1, 0));
}

#[test]
fn each_truncation_keeps_what_it_says() {
    let tokenizer = testing::tokenizer();
    let template = testing::template(Builtin::ChatMl.source());
    let mut encoder = encoder(&tokenizer, Some(&template));
    let whole = one(&encoder, talk("one two three four five six"));
    let length = whole.tokens().unwrap().input_ids.len();
    encoder.max_length = length - 4;
    let cut = one(&encoder, talk("one two three four five six"));
    assert_eq!(cut.tokens().unwrap().input_ids, whole.tokens().unwrap().input_ids[..length - 4]);
    assert_eq!((cut.tokens().unwrap().labels.len(), cut.tokens().unwrap().weights.len()), (length - 4, length - 4));
    assert_eq!(cut.notes.cut_from, Some(length));
    assert_eq!(cut.notes.labelled_before, whole.labelled_tokens());
    encoder.truncation = Truncation::KeepEnd;
    assert_eq!(
        one(&encoder, talk("one two three four five six")).tokens().unwrap().input_ids,
        whole.tokens().unwrap().input_ids[4..]
    );
    let long = record(talk("one two three four five six"));
    encoder.truncation = Truncation::Drop;
    assert_eq!(encoder.encode(&long, &location(), 0).unwrap(), Encoded::Dropped { tokens: length });
    encoder.truncation = Truncation::Refuse;
    let error = encoder.encode(&long, &location(), 0).unwrap_err().to_string();
    assert!(error.contains("rows.jsonl:3") && error.contains(&length.to_string()), "{error}");
}

#[test]
fn what_truncation_keeps_keeps_its_labels_at_every_length() {
    let tokenizer = testing::tokenizer();
    let template = testing::template(Builtin::ChatMl.source());
    let whole = one(&encoder(&tokenizer, Some(&template)), talk("one two three four five six"));
    let long = || record(talk("one two three four five six"));
    let length = whole.tokens().unwrap().input_ids.len();
    for max_length in 2..length + 2 {
        let kept = length.min(max_length);
        for truncation in
            [Truncation::Refuse, Truncation::Drop, Truncation::KeepStart, Truncation::KeepEnd, Truncation::Split]
        {
            let encoder = Encoder { truncation, max_length, ..encoder(&tokenizer, Some(&template)) };
            let range = match truncation {
                Truncation::Refuse if kept < length => {
                    assert!(matches!(encoder.encode(&long(), &location(), 0), Err(DataError::TooLong { .. })));
                    continue;
                }
                Truncation::Drop if kept < length => {
                    let encoded = encoder.encode(&long(), &location(), 0).unwrap();
                    assert_eq!(encoded, Encoded::Dropped { tokens: length });
                    continue;
                }
                Truncation::KeepEnd => length - kept..length,
                Truncation::Refuse | Truncation::Drop | Truncation::KeepStart | Truncation::Split => 0..kept,
            };
            let cut = encoder.encode(&long(), &location(), 0).unwrap().into_examples().remove(0);
            assert_eq!(
                cut.tokens().unwrap().input_ids,
                whole.tokens().unwrap().input_ids[range.clone()],
                "{truncation:?} {max_length}"
            );
            assert_eq!(cut.tokens().unwrap().labels, whole.tokens().unwrap().labels[range.clone()]);
            assert_eq!(cut.tokens().unwrap().weights, whole.tokens().unwrap().weights[range.clone()]);
            assert_eq!(
                cut.tokens().unwrap().roles.as_deref(),
                whole.tokens().unwrap().roles.as_ref().map(|roles| &roles[range])
            );
            assert_eq!(cut.notes.cut_from, (kept < length).then_some(length));
        }
    }
}

#[test]
fn keep_end_keeps_the_bos_token() {
    let dir = testing::tokenizer_folder_with_bos();
    let tokenizer = Tokenizer::from_folder(dir.path()).unwrap();
    let mut encoder = encoder(&tokenizer, None);
    let whole = one(&encoder, text("one two three four"));
    encoder.max_length = 4;
    encoder.truncation = Truncation::KeepEnd;
    let cut = one(&encoder, text("one two three four"));
    assert_eq!(cut.tokens().unwrap().input_ids[0], whole.tokens().unwrap().input_ids[0]);
    assert_eq!(
        cut.tokens().unwrap().input_ids[1..],
        whole.tokens().unwrap().input_ids[whole.tokens().unwrap().input_ids.len() - 3..]
    );
}

#[test]
fn split_cuts_texts_into_windows_that_are_all_trained() {
    let tokenizer = testing::tokenizer();
    let mut encoder = encoder(&tokenizer, None);
    let words = "one two three four five six seven eight nine ten";
    let whole = one(&encoder, text(words));
    encoder.max_length = 4;
    encoder.truncation = Truncation::Split;
    let Encoded::Examples(pieces) = encoder.encode(&record(text(words)), &location(), 0).unwrap() else {
        panic!("dropped")
    };
    let ids: Vec<u32> = pieces.iter().flat_map(|piece| piece.tokens().unwrap().input_ids.clone()).collect();
    assert_eq!(ids, whole.tokens().unwrap().input_ids);
    assert!(pieces.iter().all(|piece| piece.tokens().unwrap().input_ids.len() <= 4 && piece.notes.cut_from.is_none()));
}

#[test]
fn tokens_rows_need_no_tokenizer_and_others_say_what_they_need() {
    let bare = encoder_without_anything();
    let content = Content::Tokens { input_ids: vec![1, 2, 3], labels: vec![-100, 2, 3] };
    let example = one(&bare, content);
    assert_eq!(
        (&example.tokens().unwrap().input_ids[..], &example.tokens().unwrap().labels[..]),
        (&[1, 2, 3][..], &[-100, 2, 3][..])
    );
    assert_eq!(example.tokens().unwrap().weights, [0.0, 1.0, 1.0]);
    let error = bare.encode(&record(text("a")), &location(), 0).unwrap_err();
    assert!(error.to_string().contains("tokenizer"));
    let tokenizer = testing::tokenizer();
    let error = encoder(&tokenizer, None).encode(&record(talk("a")), &location(), 0).unwrap_err();
    assert!(error.to_string().contains("chatml"), "{error}");
}

fn encoder_without_anything() -> Encoder {
    Encoder {
        tokenizer: None,
        template: None,
        pictures: None,
        system: None,
        train_on: TrainOn::Assistant,
        truncation: Truncation::KeepStart,
        max_length: 512,
        keep_text: false,
    }
}

#[test]
fn an_example_is_written_as_the_data_command_shows_it() {
    let tokenizer = testing::tokenizer();
    let example = one(&Encoder { keep_text: false, ..encoder(&tokenizer, None) }, text("hello"));
    let json: serde_json::Value = serde_json::from_str(&example.json().unwrap()).unwrap();
    assert_eq!(json["source"], serde_json::json!({"file": "rows.jsonl", "line": 3}));
    let keys: Vec<_> = json.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["source", "input_ids", "labels", "weights"]);
}

#[test]
fn an_end_that_generation_does_not_stop_at_is_noted_whatever_turn_has_it() {
    let tokenizer = testing::tokenizer();
    let source = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{{ '<|im_end|>' if loop.last else '</s>' }}{% endfor %}\
        {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let template = testing::template(source);
    let mut long = talk("Hi");
    if let Content::Chat(chat) = &mut long {
        chat.messages.extend([Message::new(Role::User, "Bye?"), Message::new(Role::Assistant, "Bye")]);
    }
    let example = one(&encoder(&tokenizer, Some(&template)), long);
    assert_eq!(trained(&tokenizer, &example), "Hi</s>Bye<|im_end|>");
    assert_eq!(example.notes.end, tokenizer.token_to_id("</s>"));
}

#[test]
fn a_system_prompt_leads_dialogues_that_have_none() {
    let tokenizer = testing::tokenizer();
    let template = testing::template(Builtin::ChatMl.source());
    let led = Encoder { system: Some("Be kind.".into()), ..encoder(&tokenizer, Some(&template)) };
    let text = |content| one(&led, content).tokens().unwrap().text.clone().unwrap();
    let system = "<|im_start|>system\nBe kind.<|im_end|>\n";
    let asked = "<|im_start|>user\nHello?<|im_end|>\n<|im_start|>assistant\nHi<|im_end|>\n";
    assert_eq!(text(talk("Hi")), format!("{system}{asked}"));
    assert_eq!(trained(&tokenizer, &one(&led, talk("Hi"))), "Hi<|im_end|>");
    let mut own = talk("Hi");
    if let Content::Chat(chat) = &mut own {
        chat.messages.insert(0, Message::new(Role::System, "Own."));
    }
    assert_eq!(text(own), format!("{}{asked}", system.replace("Be kind.", "Own.")));
    let Encoded::Pair { chosen, rejected } = led.encode(&record(pair("4", "5")), &location(), 0).unwrap() else {
        panic!("a pair")
    };
    for (answer, example) in [("4", chosen), ("5", rejected)] {
        assert!(example.tokens().unwrap().text.as_ref().unwrap().starts_with(system));
        assert_eq!(trained(&tokenizer, &example), format!("{answer}<|im_end|>"));
    }
    // Texts without a template stay as they are, and messages are counted as they stand in the row.
    assert!(!text(completion("2+2=", "4")).contains("kind"));
    let refuses = testing::template(
        "{% for m in messages %}{{ m.content if loop.last or m.role == 'user' else 'gone' }}{% endfor %}",
    );
    let led = Encoder { template: Some(refuses), ..led };
    let mut long = talk("Hi");
    if let Content::Chat(chat) = &mut long {
        chat.messages.push(Message::new(Role::User, "Bye?"));
    }
    let error = led.encode(&record(long), &location(), 0).unwrap_err();
    assert!(error.to_string().contains("message 2"), "{error}");
}
