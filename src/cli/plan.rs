//! `drylab plan`: what a run would do: what is cached, what would run, what it would cost.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::Script;
use super::output::print_line;
use super::run::rehearse;
use super::session::{host, print_report, project, report_error};
use crate::error::Result;
use crate::lab::providers::is_address;
use crate::lab::{Bill, Lab};
use crate::provider::budget::Purpose;
use crate::provider::forecast::{
    ChatForecast, Cost, PlannedModel, RateLimits, forecast_chat, forecast_training, sunset_warnings,
};
use crate::provider::models::list_models;
use crate::provider::money::Money;
use crate::provider::price::Day;
use crate::provider::tokens::TokenCount;
use crate::run::{Download, Tally};

/// How long a provider may take to tell when its models go away.
const PATIENCE: Duration = Duration::from_secs(5);

/// Prints the plan of a script.
pub fn plan(script: &Script) -> u8 {
    let project = match project() {
        Ok(project) => project,
        Err(error) => return report_error(&error),
    };
    match rehearse(&host(&project), &project, script) {
        Ok(rehearsal) => {
            let open_end = rehearsal.open_end.map(|error| error.message);
            let priced: Result<Vec<Line>> =
                rehearsal.tally.bills.iter().map(|bill| price(&rehearsal.lab, bill)).collect();
            match priced {
                Ok(lines) => print_plan(&rehearsal.lab, &rehearsal.tally, &lines, script.json, open_end),
                Err(error) => return report_error(&error),
            }
            0
        }
        Err(report) => print_report(&report),
    }
}

/// A bill with its price.
struct Line<'a> {
    bill: &'a Bill,
    forecast: ChatForecast,
}

fn price<'a>(lab: &Lab, bill: &'a Bill) -> Result<Line<'a>> {
    let settings = lab.provider(&bill.provider)?;
    let price = lab.prices().of_kind(&bill.provider, &settings, &bill.model, bill.is_tuned);
    let forecast = if bill.purpose == Purpose::FineTune {
        // Every epoch is in the count already.
        let rows = TokenCount { tokens: bill.tokens, exact: bill.is_counted };
        ChatForecast { live: forecast_training(price.as_ref(), rows, 1), batch: None, duration: None }
    } else {
        let limits = RateLimits {
            requests_per_minute: settings.requests_per_minute,
            tokens_per_minute: settings.tokens_per_minute,
        };
        forecast_chat(price.as_ref(), &bill.counts(), limits)
    };
    Ok(Line { bill, forecast })
}

fn print_plan(lab: &Lab, tally: &Tally, lines: &[Line], as_json: bool, open_end: Option<String>) {
    let warnings = warnings(lab, lines);
    if as_json {
        let bills: Vec<Value> = lines.iter().map(describe).collect();
        print_line(json!({ "stages": tally.totals(), "missing": tally.missing, "bills": bills, "warnings": warnings,
                    "downloads": tally.downloads, "depends_on": open_end }));
        return;
    }
    print_line(format!("{:<14} {:>8} {:>8} {:>14}", "stage", "cached", "to run", "of which new"));
    for (stage, totals) in tally.totals() {
        let missing = tally.missing.get(&stage).copied().unwrap_or(0);
        print_line(format!(
            "{:<14} {:>8} {:>8} {missing:>14} {}",
            stage.title(),
            totals.cached,
            totals.planned,
            stage.unit()
        ));
    }
    print_bills(lines);
    for Download { name, commit, files, bytes } in &tally.downloads {
        let (size, commit) = (indicatif::HumanBytes(*bytes), &commit[..8.min(commit.len())]);
        print_line(format!("to download: `{name}` at {commit}, {files} files, {size} ({bytes} bytes)"));
    }
    for warning in warnings {
        print_line(format!("warning: {warning}"));
    }
    match open_end {
        Some(message) => {
            print_line(format!("the script reads a value on the way ({message}): what follows depends on it"))
        }
        None if tally.missing.is_empty() => print_line("everything is cached"),
        None => (),
    }
}

fn print_bills(lines: &[Line]) {
    if lines.is_empty() {
        return;
    }
    let width = lines.iter().map(|line| model_of(line.bill).chars().count()).max().unwrap_or(0);
    print_line(format!(
        "\n{:<10} {:<width$} {:>9} {:>15}  {:<22} {:<22} time",
        "to buy", "model", "requests", "tokens in", "live", "batch"
    ));
    for Line { bill, forecast } in lines {
        let model = model_of(bill);
        let tokens = format!("{}{}", if bill.is_counted { "" } else { "about " }, bill.tokens);
        let text = |cost: Option<Cost>| match cost {
            None => "price unknown".to_string(),
            Some(cost) if cost.high == Money::ZERO => "free".to_string(),
            Some(cost) => cost.to_string(),
        };
        // Training knows no batch, and what is free needs none.
        let batch = match (bill.purpose, forecast.live) {
            (Purpose::FineTune, _) => "-".to_string(),
            (_, Some(live)) if forecast.batch.is_none() || live.high == Money::ZERO => "-".to_string(),
            _ => text(forecast.batch),
        };
        let time = forecast.duration.map(|minutes| minutes.to_string()).unwrap_or_default();
        let purpose = bill.purpose.name();
        print_line(format!(
            "{purpose:<10} {model:<width$} {:>9} {tokens:>15}  {:<22} {batch:<22} {time}",
            bill.requests,
            text(forecast.live)
        ));
    }
    let known: Vec<Cost> = lines.iter().filter_map(|line| line.forecast.live).collect();
    let unknown = lines.len() - known.len();
    let rest = if unknown > 0 { format!(", and {unknown} lines without a price") } else { String::new() };
    let sum: Cost = known.into_iter().sum();
    if sum.high > Money::ZERO || unknown > 0 {
        print_line(format!("in all {sum}{rest}"));
    }
}

fn describe(line: &Line) -> Value {
    let cost = |cost: Option<Cost>| cost.map(|cost| json!({ "low": cost.low.dollars(), "high": cost.high.dollars() }));
    json!({
        "purpose": line.bill.purpose, "provider": line.bill.provider, "model": line.bill.model, "tuned": line.bill.is_tuned,
        "requests": line.bill.requests, "tokens": line.bill.tokens, "counted": line.bill.is_counted,
        "live_usd": cost(line.forecast.live), "batch_usd": cost(line.forecast.batch),
    })
}

fn model_of(bill: &Bill) -> String {
    let at = if is_address(&bill.provider) { '#' } else { ':' };
    format!("{}{at}{}{}", bill.provider, bill.model, if bill.is_tuned { " (tuned)" } else { "" })
}

/// Which models go away; providers are asked where a key is at hand, else the list of prices must do.
fn warnings(lab: &Lab, lines: &[Line]) -> Vec<String> {
    let mut listed = std::collections::BTreeMap::new();
    for Line { bill, .. } in lines {
        listed.entry(bill.provider.as_str()).or_insert_with(|| {
            let endpoint = lab.endpoint(&bill.provider).ok()?;
            lab.block_on(async { tokio::time::timeout(PATIENCE, list_models(&endpoint, 0)).await }).ok()?.ok()
        });
    }
    let date = |bill: &Bill| {
        let models = listed.get(bill.provider.as_str())?.as_ref()?;
        models.iter().find(|model| model.id == bill.model)?.shutdown_date.as_deref()
    };
    let planned: Vec<PlannedModel> = lines
        .iter()
        .map(|Line { bill, .. }| PlannedModel {
            provider: &bill.provider,
            model: &bill.model,
            shutdown_date: date(bill),
            is_trained: bill.purpose == Purpose::FineTune,
        })
        .collect();
    sunset_warnings(lab.prices(), &planned, Day::of(SystemTime::now()))
}
