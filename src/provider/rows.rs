//! Checks training rows and writes the file that is uploaded: what a provider refuses costs a day there.

use bytes::Bytes;
use serde::Serialize;

use super::settings::Dialect;
use super::sha256::sha256;
use crate::data::chat::{Role, Row};
use crate::error::{Result, bail, ensure};

/// What the rows must keep to.
#[derive(Clone, Copy)]
pub struct RowRules<'a> {
    /// Whose rules.
    pub dialect: Dialect,
    /// Tokens of a row that are trained on; what is longer is cut off there.
    pub context: Option<usize>,
    /// Counts the tokens of a row.
    pub count_tokens: Option<&'a (dyn Fn(&Row) -> usize + Sync)>,
}

/// Rows that may be uploaded.
#[derive(Clone, Debug)]
pub struct CheckedRows {
    /// The file: one row per line.
    pub bytes: Bytes,
    /// SHA-256 of the file, its name at the provider.
    pub sha256: String,
    /// How many rows.
    pub rows: usize,
    /// Tokens of one pass over the rows, where they were counted; what the provider cuts off is left out.
    pub tokens: Option<u64>,
    /// Tokens of the longest row.
    pub longest: Option<usize>,
    /// Rows that the provider will cut.
    pub rows_cut: usize,
}

/// Fewest rows of a job.
const FEWEST_ROWS: usize = 10;
/// Largest file.
const MOST_BYTES: usize = 512 << 20;
/// Text that means something to OpenAI's tokenizers; a row that holds it fails the whole job.
const SPECIAL_TOKENS: [&str; 8] = [
    "<|endoftext|>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|endofprompt|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|im_sep|>",
];
/// The same for the open models that Together trains.
const OPEN_SPECIAL_TOKENS: [&str; 4] = ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"];

#[derive(Serialize)]
struct Line<'a> {
    messages: Vec<LineMessage<'a>>,
}

#[derive(Serialize)]
struct LineMessage<'a> {
    role: Role,
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u8>,
}

/// Checks rows and writes them; equal rows give equal bytes.
///
/// # Errors
/// The first row that breaks a rule, by its number from 1.
pub fn check_rows<'r>(rows: impl IntoIterator<Item = &'r Row>, rules: &RowRules<'_>) -> Result<CheckedRows> {
    let mut bytes = Vec::new();
    let (mut count, mut tokens, mut longest, mut rows_cut) = (0, 0, 0, 0);
    for row in rows {
        count += 1;
        let line = check_row(row, count, rules.dialect)?;
        serde_json::to_writer(&mut bytes, &line).expect("text goes into memory");
        bytes.push(b'\n');
        ensure!(
            bytes.len() <= MOST_BYTES,
            "the rows up to row {count} take more than {} MB, the most that a provider accepts", MOST_BYTES >> 20;
            help: "draw fewer rows"
        );
        if let Some(count_tokens) = rules.count_tokens {
            let length = count_tokens(row);
            let context = rules.context.unwrap_or(usize::MAX);
            longest = longest.max(length);
            tokens += length.min(context) as u64;
            rows_cut += usize::from(length > context);
        }
    }
    let fewest = if rules.dialect == Dialect::Together { 1 } else { FEWEST_ROWS };
    ensure!(
        count >= fewest,
        "there are {count} rows to train on, and {} wants at least {fewest}", rules.dialect.name();
        help: "add rows"
    );
    let counted = rules.count_tokens.is_some();
    Ok(CheckedRows {
        sha256: sha256(&bytes),
        bytes: bytes.into(),
        rows: count,
        tokens: counted.then_some(tokens),
        longest: counted.then_some(longest),
        rows_cut,
    })
}

fn check_row(row: &Row, number: usize, dialect: Dialect) -> Result<Line<'_>> {
    ensure!(!row.messages.is_empty(), "row {number} has no messages"; help: "take the row out");
    let mut said = row.messages.iter().filter(|message| message.role == Role::Assistant).peekable();
    ensure!(
        said.peek().is_some(),
        "row {number} has no assistant message, so there is nothing to learn from it";
        help: "add what the assistant should say, or take the row out"
    );
    ensure!(
        said.any(|message| !message.content.is_empty()),
        "every assistant message of row {number} is empty, so there is nothing to learn from it";
        help: "add what the assistant should say, or take the row out"
    );
    let weight = match row.weight {
        1.0 => None,
        0.0 => Some(0),
        weight => bail!(
            "row {number} has weight {weight}, and {} knows 0 and 1 only", dialect.name();
            help: "repeat rows that count more, or train on a local model"
        ),
    };
    let open: &[&str] = if dialect == Dialect::Together { &OPEN_SPECIAL_TOKENS } else { &[] };
    for (index, message) in row.messages.iter().enumerate() {
        // Nearly no text has this, and none of the tokens is without it.
        if message.content.contains("<|")
            && let Some(token) = SPECIAL_TOKENS.iter().chain(open).find(|token| message.content.contains(**token))
        {
            bail!(
                "row {number}, message {} holds `{token}`, which fails the whole job at the provider", index + 1;
                help: "take the row out, or write the token apart, as in `< |`"
            );
        }
    }
    let messages = row.messages.iter().map(|message| LineMessage {
        role: message.role,
        content: &message.content,
        weight: weight.filter(|_| message.role == Role::Assistant),
    });
    Ok(Line { messages: messages.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::chat::Message;

    const RULES: RowRules<'_> = RowRules { dialect: Dialect::OpenAi, context: None, count_tokens: None };

    fn row(question: &str, answer: &str) -> Row {
        Row::new(vec![Message::new(Role::User, question), Message::new(Role::Assistant, answer)])
    }

    fn refused(rows: &[Row]) -> String {
        let error = check_rows(rows, &RULES).unwrap_err();
        assert!(error.help.is_some(), "{error}");
        error.message
    }

    #[test]
    fn equal_rows_give_equal_bytes_with_one_row_per_line() {
        let rows = vec![row("é\n", "\"yes\""); 10];
        let checked = check_rows(&rows, &RULES).unwrap();
        let said = r#"{"role":"assistant","content":"\"yes\""}"#;
        let line = format!("{{\"messages\":[{{\"role\":\"user\",\"content\":\"é\\n\"}},{said}]}}\n");
        assert_eq!(checked.bytes, line.repeat(10));
        assert_eq!((checked.rows, checked.tokens, checked.longest), (10, None, None));
        assert_eq!(checked.sha256, sha256(&checked.bytes));
    }

    #[test]
    fn every_rule_names_the_row() {
        let good = vec![row("q", "a"); 10];
        let with = |bad: Row| [good.clone(), vec![bad]].concat();
        assert!(refused(&good[..9]).contains("9 rows"));
        assert!(refused(&with(Row::new(vec![]))).contains("row 11 has no messages"));
        assert!(refused(&with(Row::new(vec![Message::new(Role::User, "q")]))).contains("row 11 has no assistant"));
        assert!(refused(&with(row("q", ""))).contains("message of row 11 is empty"));
        assert!(refused(&with(row("q", "a<|fim_suffix|>b"))).contains("row 11, message 2 holds `<|fim_suffix|>`"));
        assert!(refused(&with(Row { weight: 0.5, ..row("q", "a") })).contains("row 11 has weight 0.5"));
        assert!(check_rows(&with(row("a <| b |> c", "<|unheard_of|>")), &RULES).is_ok());
    }

    #[test]
    fn weight_0_is_written_on_what_the_assistant_says() {
        let rows = [vec![row("q", "a"); 10], vec![Row { weight: 0.0, ..row("q", "a") }]].concat();
        let bytes = check_rows(&rows, &RULES).unwrap().bytes;
        assert!(bytes.ends_with(b"{\"role\":\"assistant\",\"content\":\"a\",\"weight\":0}]}\n"));
        assert_eq!(String::from_utf8_lossy(&bytes).matches("weight").count(), 1);
    }

    #[test]
    fn tokens_beyond_the_context_are_not_trained_on() {
        let rows = [vec![row("q", "a"); 9], vec![row("q", &"a".repeat(100))]].concat();
        let count = |row: &Row| row.messages[1].content.len();
        let rules = RowRules { context: Some(50), count_tokens: Some(&count), ..RULES };
        let checked = check_rows(&rows, &rules).unwrap();
        assert_eq!((checked.tokens, checked.longest, checked.rows_cut), (Some(59), Some(100), 1));
    }
}
