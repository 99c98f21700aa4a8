//! Hugging Face chat templates: the Jinja of a checkpoint's folder, rendered byte for byte as `transformers` does.
//!
//! Two choices are ours, since an experiment whose system prompt is lost is worthless:
//! - A template that refuses system messages (Gemma 1 and 2, early Mistral) gets the system text before the first user
//!   text, with an empty line between them, as Google documents for Gemma and as Gemma 3's own template does.
//! - A template that would leave a system message out without a word is refused, in training also one that leaves it
//!   out where an answer follows (Mistral 3), unless moving the text as above gives what the model is asked with.
//!
//! What `transformers` renders otherwise stays: Qwen2.5's default system prompt, the dates of Llama 3, Qwen3's empty
//! thoughts. The text has the special tokens in it, so it is to be encoded without adding any.

mod date;
mod python;
mod training;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, ErrorKind, State};
use regex::Regex;
use serde_json::Value as Json;

use crate::data::chat::{Message, Role};
use crate::error::{Error, Result, bail, ensure};

pub use date::Date;
pub use training::Answers;

/// What `special_tokens_map` of `transformers` has, present as variables where `tokenizer_config.json` names them.
const SPECIAL_TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
/// The template's name in its environment.
const NAME: &str = "chat_template";
/// Function that a block `{% generation %}` becomes a call of, and the variable that makes it mark what is inside.
const GENERATION: &str = "__generation__";
const GENERATION_MARKS: &str = "__generation_marks__";
/// Marks around what the assistant says; characters that Unicode keeps out of text.
const MARKS: [char; 2] = ['\u{fdd0}', '\u{fdd1}'];
/// Stands for a text of which only the place matters.
const PLACE: &str = "\u{fdd2}";

static GENERATION_TAG: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}").expect("the pattern of a tag is well formed")
});

/// A compiled chat template with the special tokens of its tokenizer.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    variables: BTreeMap<String, Value>,
    system: SystemText,
    marks_answers: bool,
}

/// What a template does with a system message at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SystemText {
    Rendered,
    Refused,
    LeftOut,
    /// Written where the last question is asked, left out once an answer follows.
    LeftOutOfAnswered,
}

/// The words with which a template refuses a conversation.
#[derive(Debug)]
struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::error::Error for Refusal {}

impl ChatTemplate {
    /// The template of a checkpoint: the text of its `tokenizer_config.json`, and of its `chat_template.jinja` where it
    /// has one, which goes first. Of several named templates it is `default`; none where the files have none.
    pub fn of_folder_files(tokenizer_config_json: &str, chat_template_jinja: Option<&str>) -> Result<Option<Self>> {
        let config: Json = serde_json::from_str(tokenizer_config_json)
            .map_err(|error| Error::input(format!("`tokenizer_config.json` is not JSON: {error}")))?;
        let text = |value: &Json| value.as_str().map(str::to_string);
        let source = match (chat_template_jinja, &config["chat_template"]) {
            (Some(source), _) => source.to_string(),
            (None, Json::Null) => return Ok(None),
            (None, Json::String(source)) => source.clone(),
            (None, Json::Array(named)) => {
                let default = named.iter().find(|one| one["name"] == "default");
                let Some(source) = default.and_then(|one| text(&one["template"])) else {
                    let names: Vec<String> = named.iter().filter_map(|one| text(&one["name"])).collect();
                    bail!("no chat template of `tokenizer_config.json` is named `default`, found `{}`",
                        names.join("`, `");
                        help: "put the one to use into a file `chat_template.jinja` next to it");
                };
                source
            }
            (None, _) => {
                bail!("`chat_template` of `tokenizer_config.json` is neither a text nor a list of named texts")
            }
        };
        // A token is a text or an object with its `content`.
        let token = |name: &str| text(&config[name]).or_else(|| text(&config[name]["content"]));
        let tokens = SPECIAL_TOKENS.iter().filter_map(|name| Some((name.to_string(), Value::from(token(name)?))));
        Self::compile(&source, tokens.collect()).map(Some)
    }

    /// The same template with one more variable, or another value of one: `enable_thinking`, `date_string`.
    pub fn with_variable(mut self, name: &str, value: &Json) -> Self {
        self.variables.insert(name.to_string(), Value::from_serialize(value));
        self.system = self.treatment_of_system_text();
        self
    }

    /// Whether the template refuses system messages, so that their text goes before the first user's.
    pub fn moves_system_text(&self) -> bool {
        self.system == SystemText::Refused
    }

    /// The conversation as the model reads it, with the opening of the assistant's answer if asked for.
    ///
    /// Without a date the template is told of none: Llama 3 then writes the one that its authors fixed, 26 Jul 2024.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool, date: Option<Date>) -> Result<String> {
        self.write(&self.acceptable(messages)?, add_generation_prompt, date, false)
    }

    fn compile(source: &str, variables: BTreeMap<String, Value>) -> Result<Self> {
        // Jinja reads every line break as `\n`. `{% generation %}` is an extension of `transformers`, there and here a
        // call whose caller is the block.
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        let marks_answers = GENERATION_TAG.is_match(&source);
        let source = GENERATION_TAG.replace_all(&source, |tag: &regex::Captures| match tag.get(2) {
            Some(_) => format!("{{%{} endcall {}%}}", &tag[1], &tag[3]),
            None => format!("{{%{} call {GENERATION}() {}%}}", &tag[1], &tag[3]),
        });
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_keep_trailing_newline(false);
        environment.set_unknown_method_callback(python::call_method);
        environment.add_filter("trim", python::trim);
        environment.add_filter("tojson", |value: Value, options: Kwargs| python::to_json(&value, options));
        environment.add_function("raise_exception", raise_exception);
        environment.add_function(GENERATION, write_generation);
        environment
            .add_template_owned(NAME, source.into_owned())
            .map_err(|error| Error::input(format!("the chat template cannot be read: {}", words_of(&error))))?;
        let mut template = ChatTemplate { environment, variables, system: SystemText::Rendered, marks_answers };
        template.system = template.treatment_of_system_text();
        Ok(template)
    }

    /// Found by asking: what a template does is what it says.
    fn treatment_of_system_text(&self) -> SystemText {
        let chat = [(Role::System, PLACE), (Role::User, "question"), (Role::Assistant, "answer")];
        let chat = chat.map(|(role, content)| Message::new(role, content));
        let date = Date::parse("2024-07-26").ok();
        let asked = |messages: &[Message]| self.write(messages, true, date, false);
        match (asked(&chat[..2]), asked(&chat[1..2]), self.write(&chat, false, date, false)) {
            (Ok(question), _, _) if !question.contains(PLACE) => SystemText::LeftOut,
            (Err(_), Ok(_), _) => SystemText::Refused,
            (Ok(_), _, Ok(answered)) if !answered.contains(PLACE) => SystemText::LeftOutOfAnswered,
            _ => SystemText::Rendered,
        }
    }

    /// The messages as this template takes them.
    fn acceptable<'a>(&self, messages: &'a [Message]) -> Result<Cow<'a, [Message]>> {
        ensure!(!messages.is_empty(), "a conversation has at least one message, found none");
        let is_told = |message: &Message| message.role == Role::System && !message.content.trim().is_empty();
        if self.system == SystemText::LeftOut {
            ensure!(!messages.iter().any(is_told),
                "the model's chat template leaves system messages out without a word";
                help: "put their text into the first user message");
        }
        match messages.split_first() {
            Some((first, rest)) if first.role == Role::System && self.system == SystemText::Refused => {
                if is_told(first) || rest.is_empty() { move_system_text(messages) } else { Ok(Cow::Borrowed(rest)) }
            }
            _ => Ok(Cow::Borrowed(messages)),
        }
    }

    fn write(&self, messages: &[Message], prompt: bool, date: Option<Date>, marks: bool) -> Result<String> {
        let mut context = self.variables.clone();
        let mut set = |name: &str, value: Value| _ = context.insert(name.to_string(), value);
        set("messages", Value::from_serialize(messages));
        set("add_generation_prompt", Value::from(prompt));
        // Present and none, as where nobody passes them to `transformers`.
        set("tools", Value::from(()));
        set("documents", Value::from(()));
        if marks {
            set(GENERATION_MARKS, Value::from(true));
        }
        if let Some(date) = date {
            let format = move |pattern: &str| {
                date.format(pattern).map_err(|error| minijinja::Error::new(ErrorKind::InvalidOperation, error.message))
            };
            set("strftime_now", Value::from_function(format));
        }
        let template = self.environment.get_template(NAME).expect("the template was added when it was compiled");
        template.render(Value::from(context)).map_err(|error| explain(&error))
    }
}

/// The text of the system message at the start before that of the user's message after it.
fn move_system_text(messages: &[Message]) -> Result<Cow<'_, [Message]>> {
    let [system, user, ..] = messages else {
        bail!("the model's chat template takes no system message alone"; help: "let a user message follow it");
    };
    ensure!(user.role == Role::User,
        "the model's chat template takes no system message, and no user message follows it";
        help: "begin the conversation with a user message");
    let mut moved = messages[1..].to_vec();
    moved[0].content = format!("{}\n\n{}", system.content, user.content);
    Ok(Cow::Owned(moved))
}

fn raise_exception(message: String) -> Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Refusal(message)))
}

/// What stands in a block `{% generation %}`, between marks where they are asked for.
fn write_generation(state: &State, arguments: Kwargs) -> Result<Value, minijinja::Error> {
    let caller: Value = arguments.get("caller")?;
    let text = caller.call(state, &[])?.to_string();
    let marked = state.lookup(GENERATION_MARKS).is_some();
    Ok(Value::from(if marked { format!("{}{text}{}", MARKS[0], MARKS[1]) } else { text }))
}

/// The template's own words where it refuses, otherwise what went wrong and where.
fn explain(error: &minijinja::Error) -> Error {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = source {
        if let Some(Refusal(message)) = cause.downcast_ref() {
            return Error::input(format!("the model's chat template refuses this conversation: `{message}`"))
                .with_help("change the roles of its messages to what the model was made for");
        }
        source = cause.source();
    }
    let words = words_of(error);
    if words.contains("strftime_now") {
        return Error::input("the model's chat template asks for the date").with_help("pass one, such as `2026-01-31`");
    }
    Error::input(format!("the model's chat template cannot write this conversation: {words}"))
}

fn words_of(error: &minijinja::Error) -> String {
    let what = error.detail().map_or_else(|| error.kind().to_string(), |detail| format!("{}: {detail}", error.kind()));
    error.line().map_or(what.clone(), |line| format!("{what} (line {line})"))
}

#[cfg(test)]
mod tests;
