//! Sections of a report that a script makes itself: a table, sentences under it, and values for programs.

use std::fmt::Write;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::data::summary::Table;
use crate::error::{Result, ensure};

/// One section.
#[derive(Clone, Serialize, Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Section {
    /// Its heading.
    title: String,
    /// Heads of the table's columns; no table when empty.
    head: Vec<String>,
    /// Rows of the table, each as long as the head.
    rows: Vec<Vec<String>>,
    /// Sentences below, each a line.
    text: Vec<String>,
    /// The numbers behind it, for `results.json`.
    values: Value,
    /// Keeps it from standard output.
    aside: bool,
}

impl Section {
    /// Refuses a section that cannot be written.
    pub fn check(&self) -> Result<()> {
        ensure!(!self.title.trim().is_empty(), "a section has no `title`"; help: "give it one");
        for row in &self.rows {
            ensure!(
                row.len() == self.head.len(),
                "a row of the section `{}` has {} cells, its head {}", self.title, row.len(), self.head.len();
                help: "write one cell for each column"
            );
        }
        Ok(())
    }

    fn table(&self) -> Option<Table> {
        (!self.head.is_empty()).then(|| Table { head: self.head.clone(), rows: self.rows.clone() })
    }

    /// For `report.md`.
    pub fn markdown(&self) -> String {
        let mut text = format!("\n## {}\n", self.title);
        if let Some(table) = self.table() {
            let _ = write!(text, "\n{}", table.markdown());
        }
        for line in &self.text {
            let _ = write!(text, "\n{line}\n");
        }
        text
    }

    /// For standard output; nothing where it stands aside.
    pub fn plain(&self) -> String {
        if self.aside {
            return String::new();
        }
        let table = self.table().map(|table| table.plain() + "\n").unwrap_or_default();
        let lines: String = self.text.iter().map(|line| format!("{line}\n")).collect();
        format!("\n\n{}\n{table}{lines}", self.title).trim_end().to_string()
    }

    /// For `results.json`.
    pub fn document(&self) -> Value {
        json!({ "title": self.title, "text": self.text, "values": self.values })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_too_short_is_refused_and_others_are_written() {
        let mut section = Section {
            title: "Derived".into(),
            head: vec!["strategy".into(), "gap".into()],
            rows: vec![vec!["kl".into(), "3.0".into()]],
            text: vec!["Paired by seed.".into()],
            ..Section::default()
        };
        section.check().unwrap();
        let text = section.markdown();
        assert!(text.starts_with("\n## Derived\n\n|") && text.contains("3.0") && text.ends_with("\nPaired by seed.\n"));
        assert!(section.plain().ends_with("3.0\nPaired by seed."), "{}", section.plain());
        section.rows[0].pop();
        assert!(section.check().unwrap_err().message.contains("has 1 cells, its head 2"));
    }
}
