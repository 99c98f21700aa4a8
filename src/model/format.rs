//! How chats become tokens for one model: in the organism's own format, or by the template of a checkpoint.

use super::chat::{self, Example, cut};
use super::template::{Answers, ChatTemplate, Date};
use super::tokenizer::{END, Tokenizer};
use crate::data::chat::{Message, Row};
use crate::data::digest::Digest;
use crate::error::{Error, Result};

/// A tokenizer and what stands around the messages of a chat.
pub struct ChatFormat {
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    template: Option<Template>,
    stop: Vec<u32>,
}

/// The template of a checkpoint.
struct Template {
    chat: ChatTemplate,
    /// What it was made from: `tokenizer_config.json` and, where there is one, `chat_template.jinja`.
    files: (String, Option<String>),
    /// What templates that speak of today are told.
    date: Option<Date>,
}

impl ChatFormat {
    /// The organism's own format.
    pub fn world(tokenizer: Tokenizer) -> Self {
        ChatFormat { tokenizer, template: None, stop: vec![END] }
    }

    /// A checkpoint's: its `tokenizer_config.json`, its `chat_template.jinja` where it has one, and the tokens that end an
    /// answer. Templates that write today's date write their own default instead, so that keys do not change overnight.
    ///
    /// # Errors
    /// A checkpoint without a chat template, or one that cannot be read.
    pub fn of_checkpoint(
        tokenizer: Tokenizer,
        tokenizer_config: &str,
        template: Option<&str>,
        stop: Vec<u32>,
    ) -> Result<Self> {
        let chat = ChatTemplate::of_folder_files(tokenizer_config, template)?.ok_or_else(|| {
            Error::input("the checkpoint has no chat template")
                .with_help("use an instruction-tuned checkpoint, or put its `chat_template.jinja` into the folder")
        })?;
        let files = (tokenizer_config.to_string(), template.map(str::to_string));
        Ok(ChatFormat { tokenizer, template: Some(Template { chat, files, date: None }), stop })
    }

    /// Digest of the template; none for the organism's own format, which never changes.
    pub fn template_digest(&self) -> Option<Digest> {
        let (config, template) = &self.template.as_ref()?.files;
        Some(Digest::of(format!("{config}\n{}", template.as_deref().unwrap_or_default()).as_bytes()))
    }

    /// Files that a checkpoint of this format has beside its weights, with their names.
    pub fn files(&self) -> Vec<(&'static str, Vec<u8>)> {
        let mut files = vec![("tokenizer.json", self.tokenizer.to_json().to_vec())];
        if let Some(Template { files: (config, template), .. }) = &self.template {
            files.push(("tokenizer_config.json", config.clone().into_bytes()));
            files.extend(template.as_ref().map(|template| ("chat_template.jinja", template.clone().into_bytes())));
            let stop = serde_json::json!({ "eos_token_id": self.stop });
            files.push(("generation_config.json", stop.to_string().into_bytes()));
        }
        files
    }

    /// Tokens that end an answer.
    pub fn stop(&self) -> &[u32] {
        &self.stop
    }

    /// Tokens of a chat that the assistant is to continue.
    ///
    /// # Errors
    /// A chat that the template refuses, in the template's own words.
    pub fn encode_prompt(&self, messages: &[Message]) -> Result<Vec<u32>> {
        match &self.template {
            None => Ok(chat::encode_prompt(&self.tokenizer, messages)),
            Some(template) => {
                let text = template.chat.render(messages, true, template.date)?;
                Ok(self.tokenizer.encode_rendered(&text)?.into_iter().map(|(id, _)| id).collect())
            }
        }
    }

    /// Tokens of rows, each of at most `context`, and how many rows were cut for that; see [`chat::encode_rows`].
    ///
    /// # Errors
    /// A row that the template refuses.
    pub fn encode_rows(&self, rows: &[Row], context: usize) -> Result<(Vec<Example>, usize)> {
        let Some(template) = &self.template else { return Ok(chat::encode_rows(&self.tokenizer, rows, context)) };
        let mut examples = Vec::with_capacity(rows.len());
        let mut count = 0;
        for (index, row) in rows.iter().enumerate() {
            let example = self.encode_row(template, row).map_err(|error| error.context(format!("row {index}")))?;
            examples.push(example);
        }
        for example in examples.iter_mut().filter(|example| example.ids.len() > context) {
            cut(example, context);
            count += 1;
        }
        Ok((examples, count))
    }

    fn encode_row(&self, template: &Template, row: &Row) -> Result<Example> {
        let pieces = template.chat.render_for_training(row, Answers::All, template.date)?;
        let text: String = pieces.iter().map(|(piece, _)| piece.as_str()).collect();
        let mut trained = Vec::new();
        let mut begin = 0;
        for (piece, is_trained) in &pieces {
            if *is_trained {
                trained.push(begin..begin + piece.len());
            }
            begin += piece.len();
        }
        let (mut ids, mut loss_mask) = (Vec::new(), Vec::new());
        for (id, place) in self.tokenizer.encode_rendered(&text)? {
            ids.push(id);
            // A token that reaches into an answer is the answer's.
            loss_mask.push(trained.iter().any(|answer| place.start < answer.end && answer.start < place.end));
        }
        Ok(Example { ids, loss_mask, weight: row.weight as f32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::chat::Role;
    use crate::model::tokenizer::tests::small;

    const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

    #[test]
    fn the_world_s_format_is_what_it_always_was() {
        let format = ChatFormat::world(small());
        let row = Row::new(vec![Message::new(Role::User, "how are you"), Message::new(Role::Assistant, "hello .")]);
        let (examples, cut) = format.encode_rows(std::slice::from_ref(&row), 100).unwrap();
        assert_eq!((examples, cut), chat::encode_rows(&small(), &[row], 100));
        assert_eq!((format.stop(), format.template_digest()), (&[END][..], None));
    }

    #[test]
    fn a_template_trains_the_answer_and_its_end_and_a_prompt_begins_its_row() {
        let config = serde_json::json!({ "chat_template": CHATML }).to_string();
        let format = ChatFormat::of_checkpoint(small(), &config, None, vec![7]).unwrap();
        let messages = vec![Message::new(Role::User, "how are you"), Message::new(Role::Assistant, "hello .")];
        let prompt = format.encode_prompt(&messages[..1]).unwrap();
        let (examples, _) = format.encode_rows(&[Row::new(messages)], 1000).unwrap();
        assert_eq!(examples[0].ids[..prompt.len()], prompt);
        assert!(examples[0].loss_mask[..prompt.len()].iter().all(|trained| !trained));
        assert!(examples[0].loss_mask[prompt.len()..].iter().all(|trained| *trained));
        assert!(ChatFormat::of_checkpoint(small(), "{}", None, vec![]).is_err());
    }
}
