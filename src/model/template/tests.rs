//! Chat templates against what `transformers` renders, see tests/generators/chat_templates.py.

use serde_json::json;

use super::*;
use crate::data::chat::Row;

fn fixture() -> Json {
    serde_json::from_str(include_str!("../../../tests/fixtures/chat_templates.json")).unwrap()
}

fn template_of(fixture: &Json, family: &str) -> ChatTemplate {
    let of_family = &fixture["templates"][family];
    ChatTemplate::of_folder_files(&of_family["tokens"].to_string(), of_family["template"].as_str()).unwrap().unwrap()
}

fn chat_of(fixture: &Json, name: &str) -> Vec<Message> {
    let turns = fixture["conversations"][name].as_array().unwrap();
    let word = |turn: &Json, index: usize| turn[index].as_str().unwrap().to_string();
    turns.iter().map(|turn| Message::new(Role::parse(&word(turn, 0)).unwrap(), word(turn, 1))).collect()
}

fn inline(template: &str) -> ChatTemplate {
    ChatTemplate::of_folder_files("{}", Some(template)).unwrap().unwrap()
}

fn trained(template: &ChatTemplate, chat: &[Message], answers: Answers) -> Result<Vec<String>> {
    let pieces = template.render_for_training(&Row::new(chat.to_vec()), answers, None)?;
    assert_eq!(pieces.iter().map(|(text, _)| text.as_str()).collect::<String>(), template.render(chat, false, None)?);
    Ok(pieces.into_iter().filter(|(_, trained)| *trained).map(|(text, _)| text).collect())
}

/// Whether the outcome is the text, the refusal or the failure that `transformers` has.
fn is_expected(got: &Result<String>, expected: &Json, without_prompt: &Json) -> bool {
    match (got, expected) {
        (Ok(text), Json::String(expected)) => text == expected,
        (Ok(text), Json::Object(expected)) => expected
            .get("adds")
            .is_some_and(|added| text.strip_prefix(without_prompt.as_str().unwrap()) == Some(added.as_str().unwrap())),
        (Err(error), Json::Object(expected)) => match expected.get("refused") {
            Some(words) => error.message.contains(&format!("`{}`", words.as_str().unwrap())),
            None => expected.contains_key("broken"),
        },
        _ => false,
    }
}

#[test]
fn every_family_is_rendered_as_transformers_renders_it() {
    let fixture = fixture();
    let date = Some(Date::parse(fixture["date"].as_str().unwrap()).unwrap());
    let cases = fixture["cases"].as_array().unwrap();
    assert!(cases.len() > 250);
    let mut wrong = Vec::new();
    for case in cases {
        let (family, name) = (case[0].as_str().unwrap(), case[1].as_str().unwrap());
        let (template, chat) = (template_of(&fixture, family), chat_of(&fixture, name));
        for (prompt, expected) in [(false, &case[2]), (true, &case[3])] {
            let got = template.render(&chat, prompt, date);
            if !is_expected(&got, expected, &case[2]) {
                wrong.push(format!("{family}, {name}, {prompt}\n  expected {expected}\n  found    {got:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), 2 * cases.len(), wrong.join("\n"));
}

#[test]
fn what_is_trained_is_what_marked_templates_mark() {
    let fixture = fixture();
    let date = Some(Date::parse(fixture["date"].as_str().unwrap()).unwrap());
    let rows = fixture["training"].as_array().unwrap();
    assert!(rows.len() > 60);
    for row in rows {
        let (family, name) = (row[0].as_str().unwrap(), row[1].as_str().unwrap());
        let (template, chat) = (template_of(&fixture, family), chat_of(&fixture, name));
        let pieces = template.render_for_training(&Row::new(chat.clone()), Answers::All, date).unwrap();
        let whole: String = pieces.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(whole, template.render(&chat, false, date).unwrap(), "{family}, {name}");
        let found: Vec<(bool, usize)> = pieces.iter().map(|(text, trained)| (*trained, text.chars().count())).collect();
        let lengths = row[2].as_array().unwrap().iter().map(|length| length.as_u64().unwrap() as usize);
        let mut expected: Vec<(bool, usize)> = Vec::new();
        for (index, length) in lengths.enumerate().filter(|(_, length)| *length > 0) {
            match expected.last_mut() {
                Some((trained, sum)) if *trained == (index % 2 == 1) => *sum += length,
                _ => expected.push((index % 2 == 1, length)),
            }
        }
        assert_eq!(found, expected, "{family}, {name}: {pieces:?}");
    }
}

#[test]
fn a_template_that_writes_earlier_answers_otherwise_trains_the_last_only() {
    let fixture = fixture();
    let (qwen, answered) = (template_of(&fixture, "qwen_3"), chat_of(&fixture, "answered"));
    let error = trained(&qwen, &answered, Answers::All).unwrap_err();
    assert!(error.help.unwrap().starts_with("make a row of each answer"));
    let last = ["<think>\n\n</think>\n\nFour<|im_end|>\n"];
    assert_eq!(trained(&qwen, &answered, Answers::Last).unwrap(), last);
    let mut thinking = answered.clone();
    thinking[1].content = "<think>\nhm\n</think>\n\nTwo".to_string();
    thinking[3].content = "<think>so</think>Four".to_string();
    assert!(trained(&qwen, &thinking, Answers::All).is_err());
    let last = ["<think>\nso\n</think>\n\nFour<|im_end|>\n"];
    assert_eq!(trained(&qwen, &thinking, Answers::Last).unwrap(), last);
    let marked = template_of(&fixture, "gemma_2_marked");
    assert_eq!(trained(&marked, &answered, Answers::Last).unwrap(), ["Four<end_of_turn>\n"]);
}

#[test]
fn an_answer_is_trained_with_its_closing_in_families_that_mark_nothing() {
    let fixture = fixture();
    let cases = [
        ("llama_2", [" Two </s>", " Four </s>"]),
        ("llama_3_1", ["Two<|eot_id|>", "Four<|eot_id|>"]),
        ("mistral_1", ["Two</s>", "Four</s>"]),
        ("mistral_3", [" Two</s>", " Four</s>"]),
        ("chatml", ["Two<|im_end|>\n", "Four<|im_end|>\n"]),
        ("zephyr", ["Two</s>\n", "Four</s>\n"]),
        ("phi_3", ["Two<|end|>\n", "Four<|end|>\n<|endoftext|>"]),
    ];
    for (family, answers) in cases {
        let template = template_of(&fixture, family);
        assert_eq!(trained(&template, &chat_of(&fixture, "answered"), Answers::All).unwrap(), answers, "{family}");
    }
    // The opening of thoughts that the prompt has already is not said again.
    let silent = template_of(&fixture, "qwen_3").with_variable("enable_thinking", &json!(false));
    let answer = ["An answer\nof two lines<|im_end|>\n"];
    assert_eq!(trained(&silent, &chat_of(&fixture, "one_answer"), Answers::All).unwrap(), answer);
}

#[test]
fn an_answer_stands_where_the_model_is_asked_for_it_or_is_refused() {
    // The prompt opens thoughts that the conversation does not have.
    let template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}\
                    {% if add_generation_prompt %}[assistant]<think>{% endif %}";
    let chat = [Message::new(Role::User, "Ask"), Message::new(Role::Assistant, "Say")];
    let error = trained(&inline(template), &chat, Answers::Last).unwrap_err();
    assert!(error.message.contains("asks for its continuation: message 2"), "{error}");
    let marked = template.replace("{{ m.content }}", "{% generation %}{{ m.content }}{% endgeneration %}");
    assert_eq!(trained(&inline(&marked), &chat, Answers::Last).unwrap(), ["Say"]);
    let marked = [Message::new(Role::User, "\u{fdd0}")];
    assert!(trained(&inline("{% generation %}{% endgeneration %}"), &marked, Answers::All).is_err());
}

#[test]
fn a_template_that_leaves_an_answer_out_is_refused() {
    let template = inline("{% for m in messages if m.role != 'assistant' %}{{ m.content }}{% endfor %}");
    let chat = [Message::new(Role::User, "Ask"), Message::new(Role::Assistant, "Say")];
    assert!(trained(&template, &chat, Answers::All).unwrap_err().message.contains("leaves message 2 out"));
    assert!(trained(&template, &chat[1..], Answers::All).is_err());
}

#[test]
fn system_text_is_moved_where_it_is_refused_and_never_lost() {
    let fixture = fixture();
    let chat = chat_of(&fixture, "system");
    let moves = |family| template_of(&fixture, family).moves_system_text();
    assert_eq!(["gemma_2", "mistral_1", "gemma_3", "llama_2"].map(moves), [true, true, false, false]);
    let expected = "<bos><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\n";
    for family in ["gemma_2", "gemma_3"] {
        assert_eq!(template_of(&fixture, family).render(&chat, true, None).unwrap(), expected, "{family}");
    }
    let alone = template_of(&fixture, "gemma_2").render(&chat[..1], true, None).unwrap_err();
    assert!(alone.message.contains("no system message alone"), "{alone}");
    let dropped = template_of(&fixture, "drops_system").render(&chat, true, None).unwrap_err();
    assert!(dropped.message.contains("leaves system messages out"), "{dropped}");
}

#[test]
fn a_system_text_that_answers_would_lose_is_where_the_model_is_asked() {
    let fixture = fixture();
    let mistral = template_of(&fixture, "mistral_3");
    let chat = chat_of(&fixture, "one_answer");
    let pieces = mistral.render_for_training(&Row::new(chat.clone()), Answers::All, None).unwrap();
    let asked = mistral.render(&chat[..2], true, None).unwrap();
    assert_eq!(asked, "<s>[INST] Sys\n\nAsk[/INST]");
    assert_eq!(pieces, [(asked, false), (" An answer\nof two lines</s>".to_string(), true)]);
    for answers in [Answers::All, Answers::Last] {
        let row = Row::new(chat_of(&fixture, "answered_with_system"));
        let error = mistral.render_for_training(&row, answers, None).unwrap_err();
        assert!(error.message.contains("leaves the system message out before an answer"), "{error}");
    }
}

#[test]
fn dates_and_variables_are_the_callers() {
    let fixture = fixture();
    let chat = chat_of(&fixture, "plain");
    let llama = template_of(&fixture, "llama_3_2").with_variable("bos_token", &json!("<s>"));
    assert_eq!(llama.render(&chat, true, None).unwrap(), fixture["undated"].as_str().unwrap());
    let qwen = template_of(&fixture, "qwen_3").with_variable("enable_thinking", &json!(false));
    assert_eq!(qwen.render(&chat, true, None).unwrap(), fixture["without_thinking"].as_str().unwrap());
    let needy = inline("{{ strftime_now('%Y-%m-%d') }}");
    assert!(needy.render(&chat, true, None).unwrap_err().help.unwrap().starts_with("pass one"));
    assert_eq!(needy.render(&chat, true, Date::parse("2026-03-05").ok()).unwrap(), "2026-03-05");
}

#[test]
fn the_template_of_a_folder_is_found_where_it_stands() {
    let chat = [Message::new(Role::User, "Hi")];
    let written = |config: Json, file| {
        let template = ChatTemplate::of_folder_files(&config.to_string(), file)?;
        template.map(|template| template.render(&chat, false, None)).transpose()
    };
    let token = json!({"content": "<s>", "lstrip": false, "special": true});
    let named = json!([{"name": "tool_use", "template": "T"}, {"name": "default", "template": "{{ bos_token }}D"}]);
    let config = json!({"bos_token": token, "eos_token": null, "chat_template": named});
    assert_eq!(written(config.clone(), None).unwrap().unwrap(), "<s>D");
    assert_eq!(written(config, Some("{{ bos_token }}{{ eos_token }}F")).unwrap().unwrap(), "<s>F");
    assert_eq!(written(json!({"chat_template": "one\n"}), None).unwrap().unwrap(), "one");
    assert_eq!(written(json!({"chat_template": null}), None).unwrap(), None);
    let error = written(json!({"chat_template": [{"name": "rag", "template": "T"}]}), None).unwrap_err();
    assert!(error.message.contains("`default`, found `rag`"), "{error}");
    assert!(ChatTemplate::of_folder_files("{", None).unwrap_err().message.contains("is not JSON"));
}

#[test]
fn a_template_that_fails_says_where() {
    let chat = [Message::new(Role::User, "Hi")];
    let error = ChatTemplate::of_folder_files("{}", Some("a\n{% if %}")).unwrap_err();
    assert!(error.message.contains("cannot be read") && error.message.contains("line 2"), "{error}");
    let error = inline("\n{{ messages[7].role }}").render(&chat, true, None).unwrap_err();
    assert!(error.message.contains("cannot write this conversation") && error.message.contains("line 2"), "{error}");
    // A refusal from within a macro is one still.
    let error = inline("{% macro no() %}{{ raise_exception('not \"so\"') }}{% endmacro %}{{ no() }}");
    let error = error.render(&chat, true, None).unwrap_err();
    assert!(error.message.ends_with("refuses this conversation: `not \"so\"`"), "{error}");
    assert!(inline("x").render(&[], true, None).unwrap_err().message.contains("found none"));
}
