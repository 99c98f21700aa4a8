//! What a stage of a plan will cost, how long the provider's limits make it take, and which of its models go away.

use std::fmt;
use std::iter::Sum;
use std::ops::Add;

use super::money::Money;
use super::price::{Day, Ending, Price, PriceList, TokenUse};
use super::tokens::TokenCount;

/// Questions that a stage will ask of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChatCounts {
    /// How many.
    pub requests: u64,
    /// Tokens of all of them.
    pub prompt: TokenCount,
    /// Tokens that all answers together are expected to have, where there is an experience to go by.
    pub expected_completion: Option<u64>,
    /// Tokens that they have if every answer is as long as it may be.
    pub longest_completion: u64,
}

/// What a provider lets through in a minute; none where that is not known yet.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RateLimits {
    /// Requests.
    pub requests_per_minute: Option<f64>,
    /// Tokens, of questions and answers.
    pub tokens_per_minute: Option<f64>,
}

/// Dollars from `low` to `high`, written `$1.20`, `$1.20 to $3.40`, `about $1.20`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// With answers as long as expected, or empty where nothing is expected of them.
    pub low: Money,
    /// With answers as long as they may be: what a budget sets aside.
    pub high: Money,
    /// Whether the tokens of questions and rows were counted; else both ends are estimates.
    pub is_counted: bool,
}

impl Cost {
    /// No cost at all.
    pub const ZERO: Cost = Cost { low: Money::ZERO, high: Money::ZERO, is_counted: true };
}

impl Add for Cost {
    type Output = Cost;
    fn add(self, other: Cost) -> Cost {
        Cost {
            low: self.low + other.low,
            high: self.high + other.high,
            is_counted: self.is_counted && other.is_counted,
        }
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(costs: I) -> Cost {
        costs.fold(Cost::ZERO, Add::add)
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = (self.low.to_string(), self.high.to_string());
        f.write_str(if self.is_counted { "" } else { "about " })?;
        if low == high { f.write_str(&low) } else { write!(f, "{low} to {high}") }
    }
}

/// Minutes that the limits alone make a stage take, written `12 to 15 min`, `at least 3.5 h`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Minutes {
    /// With a minute's worth free at the start and answers as short as they may be.
    pub low: f64,
    /// With nothing free at the start and answers as long as they may be; none where one of the limits is not known.
    /// The time that a single answer takes comes on top.
    pub high: Option<f64>,
}

impl fmt::Display for Minutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A lower bound is rounded down and an upper one up, so that both stay what they are called.
        let in_hours = |minutes: f64| minutes >= 120.0;
        let low = match self.low {
            minutes if in_hours(minutes) => format!("{:.1} h", (minutes / 6.0).floor() / 10.0),
            minutes => format!("{:.0} min", minutes.floor()),
        };
        let Some(high) = self.high else {
            return if self.low < 1.0 { f.write_str("at least some seconds") } else { write!(f, "at least {low}") };
        };
        let high = match high {
            minutes if in_hours(minutes) => format!("{:.1} h", (minutes / 6.0).ceil() / 10.0),
            minutes => format!("{:.0} min", minutes.ceil().max(1.0)),
        };
        match self.low < 1.0 || low == high {
            true => write!(f, "up to {high}"),
            // The unit once where it is the same: `12 to 15 min`, but `50 min to 2.5 h`.
            false => match low.strip_suffix(if high.ends_with('h') { " h" } else { " min" }) {
                Some(amount) => write!(f, "{amount} to {high}"),
                None => write!(f, "{low} to {high}"),
            },
        }
    }
}

/// What asking will cost and how long it will take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChatForecast {
    /// Asked one by one; none where the price is not known.
    pub live: Option<Cost>,
    /// Through the batch service; none where the price or the service is not known.
    pub batch: Option<Cost>,
    /// Asked one by one under the limits; none where no limit is known. A batch takes up to a day.
    pub duration: Option<Minutes>,
}

/// Forecasts the questions of a stage.
pub fn forecast_chat(price: Option<&Price>, counts: &ChatCounts, limits: RateLimits) -> ChatForecast {
    let expected = counts.expected_completion.unwrap_or(0).min(counts.longest_completion);
    let tokens = |completion| TokenUse { prompt: counts.prompt.tokens, cached_prompt: 0, completion };
    let (low, high) = (tokens(expected), tokens(counts.longest_completion));
    let is_counted = counts.prompt.exact;
    let live = price.map(|price| Cost { low: price.cost(low), high: price.cost(high), is_counted });
    let batch =
        price.and_then(|price| Some(Cost { low: price.batch_cost(low)?, high: price.batch_cost(high)?, is_counted }));
    ChatForecast { live, batch, duration: duration_of(counts.requests, low, high, limits) }
}

/// Forecasts what training costs on `rows` tokens an epoch; none where the price is not known.
pub fn forecast_training(price: Option<&Price>, rows: TokenCount, epochs: u64) -> Option<Cost> {
    let tokens = rows.times(epochs);
    let cost = price?.training_cost(tokens.tokens)?;
    Some(Cost { low: cost, high: cost, is_counted: tokens.exact })
}

fn duration_of(requests: u64, low: TokenUse, high: TokenUse, limits: RateLimits) -> Option<Minutes> {
    let minutes =
        |amount: u64, limit: Option<f64>| limit.filter(|limit| *limit > 0.0).map(|limit| amount as f64 / limit);
    let by_requests = minutes(requests, limits.requests_per_minute);
    let by_tokens =
        |tokens: TokenUse| minutes(tokens.prompt.saturating_add(tokens.completion), limits.tokens_per_minute);
    let longest = by_requests.into_iter().chain(by_tokens(low)).reduce(f64::max)?;
    let high = by_requests.zip(by_tokens(high)).map(|(requests, tokens)| requests.max(tokens));
    Some(Minutes { low: (longest - 1.0).max(0.0), high })
}

/// A model that a plan asks or trains.
#[derive(Clone, Copy, Debug)]
pub struct PlannedModel<'a> {
    /// Its provider.
    pub provider: &'a str,
    /// Its id there.
    pub model: &'a str,
    /// `shutdown_date` of the provider's list of models, which goes before what the price list says.
    pub shutdown_date: Option<&'a str>,
    /// Whether a model will be fine-tuned from it.
    pub is_trained: bool,
}

/// One sentence for every model that goes away or can soon not be fine-tuned any more, the next one first.
pub fn sunset_warnings(prices: &PriceList, planned: &[PlannedModel<'_>], today: Day) -> Vec<String> {
    let mut found: Vec<(Option<Day>, String)> = Vec::new();
    for PlannedModel { provider, model, shutdown_date, is_trained } in planned {
        if let Some(day) = prices.end(provider, model, Ending::FineTuning).filter(|_| *is_trained) {
            found.push((Some(day), fine_tuning_sentence(provider, day, today)));
        }
        // Some servers add the time of day.
        let told = shutdown_date.map(|text| (text, text.get(..10).and_then(Day::parse)));
        match (told, prices.end(provider, model, Ending::Model)) {
            (Some((_, Some(day))), _) | (Some((_, None)) | None, Some(day)) => {
                found.push((Some(day), model_sentence(model, day, today)));
            }
            (Some((text, None)), None) => {
                found.push((None, format!("`{model}` goes away: its provider says `{text}`")))
            }
            (None, None) => {}
        }
    }
    found.sort();
    found.dedup();
    found.into_iter().map(|(_, sentence)| sentence).collect()
}

fn model_sentence(model: &str, day: Day, today: Day) -> String {
    match day.days_after(today) {
        0 => format!("`{model}` goes away today, {day}: answers in the store stay, new ones cannot be had"),
        days if days < 0 => format!(
            "`{model}` went away on {day}, {} ago: answers in the store stay, new ones cannot be had",
            count_days(-days)
        ),
        days => format!(
            "`{model}` goes away on {day}, in {}: all that is fine-tuned from it goes too; answers in the store stay",
            count_days(days)
        ),
    }
}

fn fine_tuning_sentence(provider: &str, day: Day, today: Day) -> String {
    match day.days_after(today) {
        0 => format!("fine-tuning at `{provider}` ends today, {day}: no job can be started any more"),
        days if days < 0 => {
            format!("fine-tuning at `{provider}` ended on {day}, {} ago: no job can be started", count_days(-days))
        }
        days => format!("fine-tuning at `{provider}` ends on {day}, in {}: start jobs before", count_days(days)),
    }
}

fn count_days(days: i64) -> String {
    if days == 1 { "1 day".to_string() } else { format!("{days} days") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::settings::ProviderSettings;

    fn price(model: &str) -> Option<Price> {
        PriceList::built_in().of("openai", &ProviderSettings::known("openai").unwrap(), model)
    }
    fn counts() -> ChatCounts {
        ChatCounts {
            requests: 10_000,
            prompt: TokenCount { tokens: 1_000_000, exact: true },
            expected_completion: Some(500_000),
            longest_completion: 2_000_000,
        }
    }
    fn limits(requests: f64, tokens: f64) -> RateLimits {
        RateLimits { requests_per_minute: Some(requests), tokens_per_minute: Some(tokens) }
    }
    fn day(text: &str) -> Day {
        Day::parse(text).unwrap()
    }
    fn warnings(planned: &[PlannedModel<'_>], today: &str) -> Vec<String> {
        sunset_warnings(&PriceList::built_in(), planned, day(today))
    }
    fn planned(model: &str) -> PlannedModel<'_> {
        PlannedModel { provider: "openai", model, shutdown_date: None, is_trained: false }
    }

    #[test]
    fn asking_costs_between_the_expected_and_the_longest_answers_and_half_in_a_batch() {
        let forecast = forecast_chat(price("gpt-4.1").as_ref(), &counts(), RateLimits::default());
        assert_eq!(forecast.live.unwrap().to_string(), "$6.00 to $18.00");
        assert_eq!(forecast.batch.unwrap().to_string(), "$3.00 to $9.00");
        assert_eq!(forecast.duration, None);
    }

    #[test]
    fn without_an_expectation_the_low_end_is_the_questions_alone() {
        let counts = ChatCounts { expected_completion: None, ..counts() };
        let forecast = forecast_chat(price("gpt-4.1").as_ref(), &counts, RateLimits::default());
        assert_eq!(forecast.live.unwrap().to_string(), "$2.00 to $18.00");
    }

    #[test]
    fn an_expectation_beyond_the_longest_answers_does_not_turn_the_range_around() {
        let counts = ChatCounts { expected_completion: Some(9_000_000), ..counts() };
        let forecast = forecast_chat(price("gpt-4.1").as_ref(), &counts, limits(1.0, 1.0));
        assert_eq!(forecast.live.unwrap().to_string(), "$18.00");
    }

    #[test]
    fn an_estimate_is_called_one_and_makes_its_sum_one() {
        let guess = ChatCounts { prompt: TokenCount { exact: false, ..counts().prompt }, ..counts() };
        let cost = forecast_chat(price("gpt-4.1").as_ref(), &guess, RateLimits::default()).live.unwrap();
        assert_eq!(cost.to_string(), "about $6.00 to $18.00");
        let known = forecast_chat(price("gpt-4.1").as_ref(), &counts(), RateLimits::default()).live.unwrap();
        assert_eq!([cost, known].into_iter().sum::<Cost>().to_string(), "about $12.00 to $36.00");
    }

    #[test]
    fn an_unknown_price_stays_unknown() {
        let forecast = forecast_chat(None, &counts(), limits(500.0, 1e6));
        assert_eq!((forecast.live, forecast.batch), (None, None));
        assert!(forecast.duration.is_some());
        assert_eq!(forecast_training(None, counts().prompt, 3), None);
        assert_eq!(forecast_training(price("gpt-5").as_ref(), counts().prompt, 3), None, "nobody can train it");
    }

    #[test]
    fn training_costs_every_epoch() {
        let cost = forecast_training(price("gpt-4.1-mini").as_ref(), counts().prompt, 3).unwrap();
        assert_eq!(cost.to_string(), "$15.00");
    }

    #[test]
    fn the_tighter_limit_decides_how_long_it_takes() {
        let by_requests = forecast_chat(None, &counts(), limits(500.0, 1e9)).duration.unwrap();
        assert_eq!((by_requests.low, by_requests.high), (19.0, Some(20.0)));
        assert_eq!(by_requests.to_string(), "19 to 20 min");
        let by_tokens = forecast_chat(None, &counts(), limits(1e6, 30_000.0)).duration.unwrap();
        assert_eq!((by_tokens.low, by_tokens.high), (49.0, Some(100.0)));
    }

    #[test]
    fn with_one_limit_unknown_the_time_is_a_lower_bound() {
        let limits = RateLimits { requests_per_minute: None, tokens_per_minute: Some(5000.0) };
        let duration = forecast_chat(None, &counts(), limits).duration.unwrap();
        assert_eq!((duration.low, duration.high), (299.0, None));
        assert_eq!(duration.to_string(), "at least 4.9 h");
    }

    #[test]
    fn times_are_written_in_the_units_of_people() {
        let written = |low, high| Minutes { low, high: Some(high) }.to_string();
        assert_eq!(written(0.0, 0.2), "up to 1 min");
        assert_eq!(written(0.5, 2.1), "up to 3 min");
        assert_eq!(written(1.9, 2.1), "1 to 3 min");
        assert_eq!(written(50.0, 150.0), "50 min to 2.5 h");
        assert_eq!(written(120.0, 150.0), "2.0 to 2.5 h");
        assert_eq!(Minutes { low: 0.2, high: None }.to_string(), "at least some seconds");
    }

    #[test]
    fn a_model_that_goes_away_is_named_with_its_day_and_the_days_until_then() {
        let told = PlannedModel { shutdown_date: Some("2027-01-14"), ..planned("gpt-4.1-2025-04-14") };
        let expected = "`gpt-4.1-2025-04-14` goes away on 2027-01-14, in 54 days: \
                        all that is fine-tuned from it goes too; answers in the store stay";
        assert_eq!(warnings(&[told, told], "2026-11-21"), [expected]);
        assert_eq!(warnings(&[planned("gpt-4.1-2025-04-14")], "2026-11-21"), [expected], "the list knows it as well");
        assert!(warnings(&[told], "2027-01-13")[0].contains("in 1 day:"));
        assert!(warnings(&[told], "2027-01-14")[0].contains("goes away today"));
        assert!(warnings(&[told], "2027-01-16")[0].contains("went away on 2027-01-14, 2 days ago"));
    }

    #[test]
    fn a_fine_tune_goes_with_its_base() {
        let found = warnings(&[planned("ft:gpt-4o-mini-2024-07-18:org:s:id")], "2026-11-21");
        assert!(found[0].starts_with("`ft:gpt-4o-mini-2024-07-18:org:s:id` goes away on 2027-01-14"), "{found:?}");
    }

    #[test]
    fn what_the_provider_says_goes_before_the_list_and_an_odd_date_is_shown_as_it_is() {
        let told = |text| warnings(&[PlannedModel { shutdown_date: Some(text), ..planned("gpt-5") }], "2026-11-21");
        assert!(told("2028-02-29T00:00:00Z")[0].contains("on 2028-02-29"));
        assert!(told("soon")[0].contains("on 2026-12-11"), "the list's day is better than none");
        let odd = PlannedModel { shutdown_date: Some("soon"), ..planned("new") };
        assert_eq!(warnings(&[odd], "2026-11-21"), ["`new` goes away: its provider says `soon`"]);
    }

    #[test]
    fn training_is_warned_of_the_end_of_fine_tuning_and_what_ends_first_stands_first() {
        let trained = PlannedModel { is_trained: true, ..planned("gpt-4.1-2025-04-14") };
        let found = warnings(&[planned("gpt-9"), trained, planned("o3")], "2026-11-21");
        assert_eq!(found.len(), 3);
        assert!(found[0].starts_with("`o3` goes away on 2026-12-11, in 20 days"));
        assert_eq!(found[1], "fine-tuning at `openai` ends on 2027-01-06, in 46 days: start jobs before");
        assert!(found[2].starts_with("`gpt-4.1-2025-04-14`"));
        assert!(warnings(&[trained], "2027-02-01")[0].contains("ended on 2027-01-06, 26 days ago"));
    }
}
