//! A training row as text in pieces, of which the assistant's are trained.

use std::borrow::Cow;
use std::ops::Range;

use super::{ChatTemplate, Date, MARKS, PLACE, SystemText, move_system_text};
use crate::data::chat::{Message, Role, Row};
use crate::error::{Error, Result, bail, ensure};

/// Which answers of a row are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// All that the assistant says.
    All,
    /// The assistant's last message; what it said before is context.
    Last,
}

impl ChatTemplate {
    /// Pieces of the row's text in order, and whether they are trained: what the assistant says after the opening that
    /// asks it to, with the template's closing of its message, or what the template marks with `{% generation %}`.
    ///
    /// Together they are the text of [`ChatTemplate::render`]. A template that writes an answer otherwise once the
    /// conversation goes on (Qwen3 takes thoughts out, Mistral moves the system text) cannot train all of them in one
    /// text and is refused, unless only the last is asked for.
    pub fn render_for_training(&self, row: &Row, answers: Answers, date: Option<Date>) -> Result<Vec<(String, bool)>> {
        let messages = self.keep_system_text(self.acceptable(&row.messages)?, date)?;
        if self.marks_answers {
            return self.read_marks(&messages, answers, date);
        }
        let whole = self.write(&messages, false, date, false)?;
        let spoken = messages.iter().enumerate().filter(|(_, message)| message.role == Role::Assistant);
        let mut spoken: Vec<usize> = spoken.map(|(index, _)| index).collect();
        if answers == Answers::Last {
            spoken.drain(..spoken.len().saturating_sub(1));
        }
        let mut pieces = Pieces::default();
        let mut written = 0;
        for index in spoken {
            let Range { start, end } = self.find_answer(&whole, &messages, index, date)?;
            ensure!(written <= start && start < end, "the model's chat template leaves message {} out", index + 1;
                help: "leave the message out of the row");
            pieces.push(&whole[written..start], false);
            pieces.push(&whole[start..end], true);
            written = end;
        }
        pieces.push(&whole[written..], false);
        Ok(pieces.0)
    }

    /// The same messages, or with the system text moved if the template would write the answers without it.
    fn keep_system_text<'a>(&self, messages: Cow<'a, [Message]>, date: Option<Date>) -> Result<Cow<'a, [Message]>> {
        let is_told = messages[0].role == Role::System && !messages[0].content.trim().is_empty();
        let answer = messages.iter().rposition(|message| message.role == Role::Assistant);
        let (SystemText::LeftOutOfAnswered, true, Some(answer)) = (self.system, is_told, answer) else {
            return Ok(messages);
        };
        let moved = move_system_text(&messages)?.into_owned();
        let asked = |messages: &[Message]| self.write(messages, true, date, false);
        ensure!(asked(&moved[..answer - 1])? == asked(&messages[..answer])?,
            "the model's chat template leaves the system message out before an answer";
            help: "put its text into the user message that it is for");
        Ok(Cow::Owned(moved))
    }

    /// Where the answer at this index stands in the text of all messages.
    fn find_answer(&self, whole: &str, messages: &[Message], index: usize, date: Option<Date>) -> Result<Range<usize>> {
        let number = index + 1;
        let start = match index {
            0 => self.find_alone(whole, &messages[..1], date)?,
            _ => {
                let before = self.write(&messages[..index], true, date, false);
                let before = before.map_err(|error| error.context(format!("in what comes before message {number}")))?;
                if !whole.starts_with(&before) {
                    return Err(changed(number));
                }
                before.len()
            }
        };
        if index == messages.len() - 1 {
            return Ok(start..whole.len());
        }
        let until = self.write(&messages[..=index], false, date, false)?;
        if whole.starts_with(&until) {
            return Ok(start..until.len());
        }
        // The text may close otherwise than the message does (Phi-3 ends it with `<|endoftext|>`): what counts is that
        // the answer is the same, and its closing is what both have.
        let mut marked = messages.to_vec();
        marked[index].content = PLACE.to_string();
        let inside = self.write(&marked, false, date, false)?;
        let at_end = self.write(&marked[..=index], false, date, false)?;
        let (Some((_, inside)), Some((_, at_end))) = (inside.split_once(PLACE), at_end.split_once(PLACE)) else {
            return Err(changed(number));
        };
        let (Some(said), Some(said_at_end)) = (whole.strip_suffix(inside), until.strip_suffix(at_end)) else {
            return Err(changed(number));
        };
        let closing = whole_markers(common_start(inside, at_end));
        if said != said_at_end || closing.is_empty() {
            return Err(changed(number));
        }
        Ok(start..said.len() + closing.len())
    }

    /// Where an answer begins that no message comes before; few templates write a conversation of none.
    fn find_alone(&self, whole: &str, message: &[Message], date: Option<Date>) -> Result<usize> {
        let text = self.write(&[Message::new(message[0].role, PLACE)], false, date, false)?;
        let (mut before, _) = text.split_once(PLACE).ok_or_else(|| changed(1))?;
        // What the template writes to ask for an answer is not part of one, what it puts in front of the words is.
        let question = [Message::new(Role::User, "question")];
        let asked = [false, true].map(|prompt| self.write(&question, prompt, date, false));
        if let [Ok(unasked), Ok(asked)] = &asked
            && let Some(opening) = asked.strip_prefix(unasked.as_str()).filter(|opening| !opening.is_empty())
            && let Some(start) = before.rfind(opening)
        {
            before = &before[..start + opening.len()];
        }
        if whole.starts_with(before) { Ok(before.len()) } else { Err(changed(1)) }
    }

    /// The pieces that the template itself marks.
    fn read_marks(&self, messages: &[Message], answers: Answers, date: Option<Date>) -> Result<Vec<(String, bool)>> {
        for (index, message) in messages.iter().enumerate() {
            ensure!(!message.content.contains(MARKS),
                "message {} has U+FDD0 or U+FDD1, which are no characters", index + 1;
                help: "take them out");
        }
        let text = self.write(messages, false, date, true)?;
        let mut left = match answers {
            Answers::All => 0,
            Answers::Last => text.matches(MARKS[0]).count().saturating_sub(1),
        };
        let mut pieces = Pieces::default();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once(MARKS[0]) {
            let Some((said, after)) = after.split_once(MARKS[1]) else {
                bail!("the model's chat template cuts what it marks with `{{% generation %}}`");
            };
            pieces.push(before, false);
            pieces.push(said, left == 0);
            left = left.saturating_sub(1);
            rest = after;
        }
        pieces.push(rest, false);
        Ok(pieces.0)
    }
}

/// Pieces of text; neighbours of the same kind are one.
#[derive(Default)]
struct Pieces(Vec<(String, bool)>);

impl Pieces {
    fn push(&mut self, text: &str, trained: bool) {
        match self.0.last_mut() {
            _ if text.is_empty() => {}
            Some((last, same)) if *same == trained => *last += text,
            _ => self.0.push((text.to_string(), trained)),
        }
    }
}

fn changed(number: usize) -> Error {
    let message = "the model's chat template does not write a conversation as it asks for its continuation";
    Error::input(format!("{message}: message {number} or what comes before it is written otherwise afterwards"))
        .with_help(
            "make a row of each answer and train the last one only, or mark the answers in the template with \
         `{% generation %}` and `{% endgeneration %}`",
        )
}

fn common_start<'a>(one: &'a str, other: &str) -> &'a str {
    let same = one.chars().zip(other.chars()).take_while(|(one, other)| one == other);
    &one[..same.map(|(character, _)| character.len_utf8()).sum()]
}

/// The text without a marker at its end that is cut, such as the `<|` of two markers that begin alike.
fn whole_markers(text: &str) -> &str {
    let cut = [('<', '>'), ('[', ']')].into_iter().filter_map(|(open, close)| {
        let start = text.rfind(open)?;
        (!text[start..].contains(close)).then_some(start)
    });
    &text[..cut.min().unwrap_or(text.len())]
}
