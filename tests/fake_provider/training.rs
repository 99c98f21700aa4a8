//! What a training leaves: rows that were checked, losses, checkpoints, the file of results.

use serde_json::{Value, json};

use super::faults::unit;

/// What a good training file holds.
pub struct Rows {
    pub rows: u64,
    /// By the usual four bytes each.
    pub tokens: u64,
}

/// Reads a training file as the validation of a job does; the error is its code and message.
pub fn check_rows(content: &[u8], is_preference: bool) -> Result<Rows, (&'static str, String)> {
    let invalid = |number: usize, what: &str| {
        Err(("invalid_training_file", format!("Invalid file format. Example {number} {what}")))
    };
    let Ok(text) = std::str::from_utf8(content) else {
        return Err(("invalid_training_file", "The file is not valid UTF-8".into()));
    };
    let mut rows = 0;
    for (index, line) in text.lines().filter(|line| !line.trim().is_empty()).enumerate() {
        let number = index + 1;
        rows += 1;
        let Ok(row) = serde_json::from_str::<Value>(line) else {
            return invalid(number, "is not valid JSON");
        };
        let lists = match is_preference {
            true => vec![&row["input"]["messages"], &row["preferred_output"], &row["non_preferred_output"]],
            false => vec![&row["messages"]],
        };
        let Some(lists) = lists.into_iter().map(Value::as_array).collect::<Option<Vec<_>>>() else {
            return invalid(number, "is missing its messages");
        };
        let messages: Vec<&Value> = lists.into_iter().flatten().collect();
        if !messages.iter().any(|message| message["role"] == "assistant") {
            return invalid(number, "has no message from the assistant");
        }
        for message in messages {
            if !["system", "user", "assistant", "tool", "developer"].iter().any(|role| message["role"] == *role) {
                return invalid(number, "has a message with an unknown role");
            }
            if message["content"].as_str().is_some_and(|text| text.contains("<|") && text.contains("|>")) {
                return invalid(number, "message contains an invalid token");
            }
        }
    }
    if rows < 10 {
        let message = format!("Training file has {rows} example(s), but must have at least 10 examples");
        return Err(("invalid_n_examples", message));
    }
    Ok(Rows { rows, tokens: (content.len() as u64).div_ceil(4) })
}

/// Loss and accuracy at a step, both in four digits.
pub fn measure(seed: u64, step: u32, steps: u32) -> (f64, f64) {
    let progress = f64::from(step) / f64::from(steps.max(1));
    let loss = 2.0 * (-3.0 * progress).exp() + 0.1 * unit(seed.wrapping_add(u64::from(step)));
    let round = |number: f64| (number * 10_000.0).round() / 10_000.0;
    (round(loss), round(0.9 - loss / 4.0))
}

/// Numbers of an event of type `metrics`.
pub fn metrics(seed: u64, step: u32, steps: u32) -> Value {
    let (loss, accuracy) = measure(seed, step, steps);
    json!({ "step": step, "train_loss": loss, "train_mean_token_accuracy": accuracy, "total_steps": steps })
}

/// Numbers of a checkpoint.
pub fn checkpoint_metrics(seed: u64, step: u32, steps: u32, has_validation: bool) -> Value {
    let (loss, accuracy) = measure(seed, step, steps);
    let mut metrics = json!({ "step": step, "train_loss": loss, "train_mean_token_accuracy": accuracy });
    if has_validation {
        metrics["full_valid_loss"] = json!(loss + 0.1);
        metrics["full_valid_mean_token_accuracy"] = json!(accuracy);
    }
    metrics
}

/// The file of results, with empty cells for what was not measured.
pub fn results(seed: u64, steps: u32) -> String {
    let rows = (1..=steps).map(|step| {
        let (loss, accuracy) = measure(seed, step, steps);
        format!("{step},{loss},{accuracy},,\n")
    });
    format!("step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n{}", rows.collect::<String>())
}

/// Base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| (bits << 8) | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place > group.len() { '=' } else { letter as char });
        }
    }
    text
}
