//! The audit as it is read in a terminal: worst first, a sentence and two example pairs each, then the shifts.

use super::matches::{number, score};
use super::{Audit, Finding, Pair, Place, Severity};

/// Pairs that are shown of each finding.
const EXAMPLES: usize = 2;
/// Columns of a line.
const WIDTH: usize = 100;

impl Audit {
    /// Plain text, wrapped at 100 columns; row numbers count from 0.
    pub fn text(&self) -> String {
        let mut lines = vec![format!(
            "audit of {} and {} in {}: {} severe, {}, {}",
            number(self.training, "training row"),
            number(self.evaluation, "evaluation row"),
            number(self.sources, "source"),
            self.count(Severity::Severe),
            number(self.count(Severity::Warning), "warning"),
            number(self.count(Severity::Note), "note")
        )];
        self.findings.iter().for_each(|finding| add_finding(&mut lines, finding));
        if !self.shift.is_empty() {
            lines.push("shift of each source beside the training rows of the others".into());
            let width = self.shift.iter().map(|shift| shift.source.chars().count()).max().unwrap_or(0).max(6);
            lines.push(format!(
                "  {:width$}  {:>6}  {:>12}  {:>12}  {:>11}  {:>12}  {:>9}",
                "source", "rows", "active/row", "mean active", "correlation", "domain AUROC", "dead here"
            ));
            for shift in &self.shift {
                let or_dash = |value: Option<f64>| value.map_or("-".to_string(), score);
                let times = |ratio: Option<f64>| ratio.map_or("-".to_string(), |ratio| format!("x {ratio:.2}"));
                let share = shift.dead_here.map_or("-".to_string(), |share| format!("{:.1} %", 100.0 * share));
                lines.push(format!(
                    "  {:width$}  {:>6}  {:>12}  {:>12}  {:>11}  {:>12}  {:>9}",
                    shift.source,
                    shift.rows,
                    times(shift.density_ratio),
                    times(shift.activation_ratio),
                    or_dash(shift.correlation),
                    or_dash(shift.domain_auroc),
                    share
                ));
            }
        }
        lines.join("\n") + "\n"
    }
}

fn add_finding(lines: &mut Vec<String>, finding: &Finding) {
    let severity = match finding.severity {
        Severity::Severe => "severe",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    let mut line = format!("{severity:<8}");
    for word in finding.message.split(' ') {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(std::mem::replace(&mut line, " ".repeat(8)));
        }
        line = line + " " + word;
    }
    lines.push(line);
    lines.extend(finding.pairs.iter().take(EXAMPLES).map(pair));
    if finding.severity == Severity::Severe {
        lines.push(format!("         help: {}", finding.kind.help()));
    }
}

fn pair(pair: &Pair) -> String {
    format!("         {:>4}  {} ~ {}", score(pair.score), place(&pair.training), place(&pair.other))
}

fn place(place: &Place) -> String {
    let label = place.label.map_or(String::new(), |label| format!(" (label {})", u8::from(label)));
    format!("`{}` row {}{label}", place.source, place.row)
}
