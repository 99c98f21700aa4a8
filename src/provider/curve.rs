//! The training curve of a job, from its result file or from its events.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::wire::job::JobEvent;

/// One step of a training curve; what was not measured there is missing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CurvePoint {
    /// Which step, from 1.
    pub step: u64,
    /// Loss on the rows of the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_loss: Option<f64>,
    /// Share of their tokens that the model would have said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_accuracy: Option<f64>,
    /// Loss on some rows for validation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_loss: Option<f64>,
    /// Share of their tokens that the model would have said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_accuracy: Option<f64>,
}

/// Reads a result file: comma-separated values with a heading, plain or in base64. Nothing where it is neither.
pub fn parse_curve(bytes: &[u8]) -> Option<Vec<CurvePoint>> {
    let plain = std::str::from_utf8(bytes).ok().and_then(parse_table);
    plain.or_else(|| parse_table(std::str::from_utf8(&decode_base64(bytes)?).ok()?))
}

fn parse_table(text: &str) -> Option<Vec<CurvePoint>> {
    let mut lines = text.trim_start_matches('\u{feff}').lines();
    let heading: Vec<&str> = lines.next()?.split(',').map(str::trim).collect();
    let column = |names: &[&str]| heading.iter().position(|name| names.contains(name));
    let step = column(&["step"])?;
    let columns = [
        column(&["train_loss"]),
        column(&["train_accuracy", "train_mean_token_accuracy"]),
        column(&["valid_loss", "validation_loss"]),
        column(&["valid_mean_token_accuracy", "validation_mean_token_accuracy", "valid_accuracy"]),
    ];
    let mut points = Vec::new();
    for line in lines {
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        let number = |at: Option<usize>| cells.get(at?)?.parse::<f64>().ok().filter(|number| number.is_finite());
        // Steps are written as `12` and as `12.0`.
        let Some(step) = number(Some(step)) else { continue };
        let [train_loss, train_accuracy, valid_loss, valid_accuracy] = columns.map(number);
        points.push(CurvePoint { step: step as u64, train_loss, train_accuracy, valid_loss, valid_accuracy });
    }
    Some(points)
}

/// The same from what the job said while it ran, for servers without result files.
pub fn curve_of(events: &[JobEvent]) -> Vec<CurvePoint> {
    let mut points: Vec<CurvePoint> = events.iter().filter_map(point_of).collect();
    points.sort_by_key(|point| point.step);
    points.dedup_by(|later, first| later.step == first.step);
    points
}

/// The point of the curve that an event tells.
pub fn point_of(event: &JobEvent) -> Option<CurvePoint> {
    let (step, _) = step_of(event)?;
    let said = event.message.split("training loss=").nth(1).and_then(|text| {
        let end = text.find(|letter: char| !letter.is_ascii_digit() && !".e-+".contains(letter)).unwrap_or(text.len());
        text[..end].trim_end_matches('.').parse().ok()
    });
    let number = |name: &str| event.data.as_ref()?.get(name)?.as_f64();
    let train_loss = number("train_loss").or(said)?;
    Some(CurvePoint {
        step,
        train_loss: Some(train_loss),
        train_accuracy: number("train_mean_token_accuracy").or_else(|| number("train_accuracy")),
        valid_loss: number("valid_loss"),
        valid_accuracy: number("valid_mean_token_accuracy"),
    })
}

/// The step that an event is about, and of how many.
pub fn step_of(event: &JobEvent) -> Option<(u64, Option<u64>)> {
    let number = |name: &str| event.data.as_ref().and_then(|data| data.get(name)).and_then(Value::as_f64);
    // `Step 31/372: training loss=0.12`.
    let said = event.message.strip_prefix("Step ").and_then(|text| text.split_once('/')).and_then(|(step, rest)| {
        let total = rest.split(|letter: char| !letter.is_ascii_digit()).next();
        Some((step.parse::<u64>().ok()?, total.and_then(|total| total.parse::<u64>().ok())))
    });
    let step = number("step").map(|step| step as u64).or(said.map(|(step, _)| step))?;
    let total = number("total_steps").map(|total| total as u64).or(said.and_then(|(_, total)| total));
    Some((step, total.filter(|total| *total > 0)))
}

/// Base64 with or without padding and line breaks; nothing where it is none.
fn decode_base64(bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut decoded, mut buffer, mut bits) = (Vec::with_capacity(bytes.len() / 4 * 3), 0u32, 0);
    for byte in bytes.iter().filter(|byte| !byte.is_ascii_whitespace() && **byte != b'=') {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        buffer = (buffer << 6 | u32::from(digit)) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            decoded.push((buffer >> bits) as u8);
        }
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_result_file_is_read_plain_and_in_base64() {
        let text =
            "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,2.5,0.5,,\n2.0,1e-1,,0.25,0.75\n";
        let expected = [
            CurvePoint { step: 1, train_loss: Some(2.5), train_accuracy: Some(0.5), ..Default::default() },
            CurvePoint {
                step: 2,
                train_loss: Some(0.1),
                valid_loss: Some(0.25),
                valid_accuracy: Some(0.75),
                ..Default::default()
            },
        ];
        assert_eq!(parse_curve(text.as_bytes()).unwrap(), expected);
        // `base64` of the same text.
        let encoded = "c3RlcCx0cmFpbl9sb3NzLHRyYWluX2FjY3VyYWN5LHZhbGlkX2xvc3MsdmFsaWRfbWVhbl90b2tl\nbl9hY2N1cmFjeQoxLDIuNSwwLjUsLAoyLjAsMWUtMSwsMC4yNSwwLjc1Cg==\n";
        assert_eq!(parse_curve(encoded.as_bytes()).unwrap(), expected);
        assert_eq!(parse_curve(b"<html>"), None);
        assert_eq!(parse_curve(b""), None);
    }

    #[test]
    fn events_tell_steps_and_losses() {
        let event = |message: &str, data: Value| {
            serde_json::from_value::<JobEvent>(json!({ "id": message, "message": message, "data": data })).unwrap()
        };
        let events = [
            event("Step 31/372: training loss=0.12", json!({})),
            event("metrics", json!({ "step": 2, "train_loss": 0.5, "total_steps": 372 })),
            event("Step 2/372: training loss=0.5", json!({})),
            event("New fine-tuned model created", Value::Null),
        ];
        assert_eq!(step_of(&events[0]), Some((31, Some(372))));
        assert_eq!(step_of(&events[1]), Some((2, Some(372))));
        let curve = curve_of(&events);
        assert_eq!(
            curve.iter().map(|point| (point.step, point.train_loss)).collect::<Vec<_>>(),
            [(2, Some(0.5)), (31, Some(0.12))]
        );
    }
}
