//! What tokens cost and until when models answer: a dated list that people edit.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;
use toml::Spanned;

use super::money::{Money, Rate, Share};
use super::settings::{Dialect, ProviderSettings};
use super::wire::chat::Usage;
use crate::error::{Error, Result};

/// The list that is part of the program.
const BUILT_IN: &str = include_str!("../../datasets/prices.toml");

/// A day of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Day(i64);

impl Day {
    /// A day as `2027-01-14`, from 1970 on.
    pub fn parse(text: &str) -> Option<Self> {
        let time = humantime::parse_rfc3339(&format!("{text}T00:00:00Z")).ok().filter(|_| text.len() == 10)?;
        Some(Self::of(time))
    }
    /// The day of a moment, in UTC.
    pub fn of(time: std::time::SystemTime) -> Self {
        let seconds = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        Day((seconds / 86_400) as i64)
    }
    /// Days from `other` to this one, below 0 where this one is earlier.
    pub fn days_after(self, other: Day) -> i64 {
        self.0 - other.0
    }
}

impl TryFrom<String> for Day {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Day::parse(&text).ok_or_else(|| format!("a date is `YYYY-MM-DD`, found `{text}`"))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(self.0.unsigned_abs() * 86_400);
        let text = humantime::format_rfc3339_seconds(time).to_string();
        f.write_str(&text[..10])
    }
}

/// Tokens that were used, or may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenUse {
    /// Of the questions, cached ones among them.
    pub prompt: u64,
    /// Those of the questions that the provider had seen just before.
    pub cached_prompt: u64,
    /// Of the answers, thinking included.
    pub completion: u64,
}

impl From<Usage> for TokenUse {
    fn from(usage: Usage) -> Self {
        let cached_prompt = usage.prompt_tokens_details.map_or(0, |details| details.cached_tokens);
        TokenUse { prompt: usage.prompt_tokens, cached_prompt, completion: usage.completion_tokens }
    }
}

/// Prices of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tariff {
    prompt: Rate,
    cached_prompt: Option<Rate>,
    completion: Rate,
    batch_factor: Option<Share>,
}

/// What one model costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Price {
    tariff: Tariff,
    /// Per million tokens trained on, every epoch counted; none where it is not known.
    pub training: Option<Rate>,
    /// Where the numbers stand.
    pub source: String,
    /// When they were compared with it; none for a server that costs nothing.
    pub checked: Option<Day>,
}

impl Price {
    /// The price of what runs on the user's own machines.
    pub fn free() -> Self {
        let batch_factor = Some(Share::WHOLE);
        let tariff = Tariff { prompt: Rate::ZERO, cached_prompt: None, completion: Rate::ZERO, batch_factor };
        Price { tariff, training: Some(Rate::ZERO), source: "a server of your own".to_string(), checked: None }
    }
    /// Whether asking costs nothing.
    pub fn is_free(&self) -> bool {
        self.tariff.prompt == Rate::ZERO && self.tariff.completion == Rate::ZERO
    }
    /// Per million tokens of a question.
    pub fn prompt(&self) -> Rate {
        self.tariff.prompt
    }
    /// Per million tokens of an answer.
    pub fn completion(&self) -> Rate {
        self.tariff.completion
    }
    /// What these tokens cost when they are asked for one by one.
    pub fn cost(&self, tokens: TokenUse) -> Money {
        let cached = tokens.cached_prompt.min(tokens.prompt);
        let cached_rate = self.tariff.cached_prompt.unwrap_or(self.tariff.prompt);
        let prompt = self.tariff.prompt.picos(tokens.prompt - cached) + cached_rate.picos(cached);
        Money::of_picos(prompt + self.tariff.completion.picos(tokens.completion))
    }
    /// What they cost through the batch service, without a discount for cached prompts; none where there is no service.
    pub fn batch_cost(&self, tokens: TokenUse) -> Option<Money> {
        let share = self.tariff.batch_factor?;
        let picos = self.tariff.prompt.picos(tokens.prompt) + self.tariff.completion.picos(tokens.completion);
        Some(Money::of_picos(share.of(picos)))
    }
    /// What training costs; `tokens` with every epoch counted.
    pub fn training_cost(&self, tokens: u64) -> Option<Money> {
        self.training.map(|rate| Money::of_picos(rate.picos(tokens)))
    }
}

/// The base model in a fine-tuned model's id, `ft:BASE:ORGANISATION:SUFFIX:ID`.
pub fn base_of_fine_tune(model: &str) -> Option<&str> {
    model.strip_prefix("ft:").and_then(|rest| rest.split(':').next()).filter(|base| !base.is_empty())
}

/// A model's name, or with `*` at its end the beginning of names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
struct Pattern(String);

impl TryFrom<String> for Pattern {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let stars = text.matches('*').count();
        match text.is_empty() || stars > 1 || stars == 1 && !text.ends_with('*') {
            true => Err(format!("a model is a name, or the beginning of names and `*`, found `{text}`")),
            false => Ok(Pattern(text)),
        }
    }
}

impl Pattern {
    /// How well it fits: a whole name better than any beginning, a long beginning better than a short one.
    fn fit(&self, model: &str) -> Option<usize> {
        match self.0.strip_suffix('*') {
            Some(beginning) => model.starts_with(beginning).then_some(beginning.len()),
            None => (self.0 == model).then_some(usize::MAX),
        }
    }
}

fn best_fit(patterns: &[Pattern], model: &str) -> Option<usize> {
    patterns.iter().filter_map(|pattern| pattern.fit(model)).max()
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    provider: String,
    models: Vec<Pattern>,
    prompt: Rate,
    cached_prompt: Option<Rate>,
    completion: Rate,
    training: Option<Rate>,
    fine_tuned: Option<Tariff>,
    batch_factor: Option<Share>,
    source: String,
    checked: Day,
}

impl Entry {
    fn price(&self, is_fine_tuned: bool) -> Option<Price> {
        let base = Tariff {
            prompt: self.prompt,
            cached_prompt: self.cached_prompt,
            completion: self.completion,
            batch_factor: self.batch_factor,
        };
        let tariff = match (is_fine_tuned, self.fine_tuned) {
            (false, _) => base,
            (true, Some(own)) => Tariff { batch_factor: own.batch_factor.or(self.batch_factor), ..own },
            (true, None) => return None,
        };
        Some(Price { tariff, training: self.training, source: self.source.clone(), checked: Some(self.checked) })
    }
}

/// What stops on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// The models and their fine-tunes answer no more.
    Model,
    /// Nobody can start a fine-tuning job.
    FineTuning,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sunset {
    provider: String,
    what: Ending,
    models: Vec<Pattern>,
    date: Day,
    #[serde(rename = "source")]
    _source: String,
    #[serde(rename = "checked")]
    _checked: Day,
}

/// One file of prices.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PriceFile {
    #[serde(default, rename = "price")]
    prices: Vec<Spanned<Entry>>,
    #[serde(default, rename = "sunset")]
    sunsets: Vec<Spanned<Sunset>>,
}

/// What is known of prices and of last days.
#[derive(Clone, Debug)]
pub struct PriceList {
    /// The first that has an answer is believed.
    files: Vec<PriceFile>,
}

impl PriceList {
    /// The list that came with the program.
    pub fn built_in() -> Self {
        let file = read_file(BUILT_IN, "prices.toml").expect("the list in the program is tested");
        PriceList { files: vec![file] }
    }
    /// The same behind a project's own file, which is asked first; `name` is what errors call it.
    pub fn with_file(mut self, text: &str, name: &str) -> Result<Self> {
        self.files.insert(0, read_file(text, name)?);
        Ok(self)
    }
    /// What asking `model` costs, or training from it; none where that is not known, which is not the same as nothing.
    /// A fine-tune is known by its id, an Azure deployment by the base model that the settings name.
    pub fn of(&self, provider: &str, settings: &ProviderSettings, model: &str) -> Option<Price> {
        let model = settings.deployments.get(model).map_or(model, String::as_str);
        let listed = self.files.iter().find_map(|file| {
            let whole = file.entry(provider, model).and_then(|entry| entry.price(false));
            whole.or_else(|| file.entry(provider, base_of_fine_tune(model)?)?.price(true))
        });
        listed.or_else(|| is_own_server(settings).then(Price::free))
    }
    /// The same for a model or, where `is_tuned`, for a fine-tune of it.
    pub fn of_kind(&self, provider: &str, settings: &ProviderSettings, model: &str, is_tuned: bool) -> Option<Price> {
        match is_tuned {
            true => self.of_fine_tune(provider, settings, model),
            false => self.of(provider, settings, model),
        }
    }
    /// The same for a fine-tune of `base` whose id does not tell that it is one.
    pub fn of_fine_tune(&self, provider: &str, settings: &ProviderSettings, base: &str) -> Option<Price> {
        let listed = self.files.iter().find_map(|file| file.entry(provider, base)?.price(true));
        listed.or_else(|| is_own_server(settings).then(Price::free))
    }
    /// The last day but none of a model, or of fine-tuning from it: on the day given it is over.
    pub fn end(&self, provider: &str, model: &str, what: Ending) -> Option<Day> {
        let model = base_of_fine_tune(model).unwrap_or(model);
        self.files.iter().find_map(|file| {
            let fitting = file
                .sunsets
                .iter()
                .map(Spanned::get_ref)
                .filter(|sunset| sunset.provider == provider && sunset.what == what);
            let best = fitting.filter_map(|sunset| Some((best_fit(&sunset.models, model)?, sunset.date)));
            best.max_by_key(|(fit, _)| *fit).map(|(_, date)| date)
        })
    }
}

impl PriceFile {
    fn entry(&self, provider: &str, model: &str) -> Option<&Entry> {
        let entries = self.prices.iter().map(Spanned::get_ref).filter(|entry| entry.provider == provider);
        let fitting = entries.filter_map(|entry| Some((best_fit(&entry.models, model)?, entry)));
        fitting.max_by_key(|(fit, _)| *fit).map(|(_, entry)| entry)
    }
}

fn read_file(text: &str, name: &str) -> Result<PriceFile> {
    let line_of = |offset: usize| text.as_bytes()[..offset.min(text.len())].iter().filter(|b| **b == b'\n').count() + 1;
    let refuse = |offset: usize, wrong: &str| {
        let help = "mend the line; the list that is part of the program begins with an explanation of the form";
        Error::input(format!("`{name}` line {}: {wrong}", line_of(offset))).with_help(help)
    };
    let file: PriceFile = toml::from_str(text).map_err(|error| {
        let wrong = error.message().lines().next().unwrap_or("it cannot be read").to_string();
        refuse(error.span().map_or(0, |span| span.start), &wrong)
    })?;
    let mut seen = HashSet::new();
    let prices =
        file.prices.iter().map(|entry| (entry.span(), None, &entry.get_ref().provider, &entry.get_ref().models));
    let sunsets = file.sunsets.iter().map(|sunset| {
        let Sunset { what, provider, models, .. } = sunset.get_ref();
        (sunset.span(), Some(*what), provider, models)
    });
    for (span, what, provider, models) in prices.chain(sunsets) {
        if models.is_empty() {
            return Err(refuse(span.start, "the entry names no model"));
        }
        for Pattern(model) in models {
            if !seen.insert((what, provider, model)) {
                return Err(refuse(span.start, &format!("`{model}` of `{provider}` stands in two entries")));
            }
        }
    }
    Ok(file)
}

/// Whether nobody sends a bill: a server on this machine or network, or one that speaks OpenAI's protocol to anybody.
fn is_own_server(settings: &ProviderSettings) -> bool {
    let asks_no_key = settings.dialect() == Dialect::Compatible && settings.keys.is_empty();
    let host = reqwest::Url::parse(settings.base_url()).ok().and_then(|url| url.host_str().map(str::to_string));
    asks_no_key || host.is_some_and(|host| is_near(host.trim_matches(['[', ']'])))
}

fn is_near(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => {
            address.is_loopback() || address.is_private() || address.is_link_local() || address.is_unspecified()
        }
        Ok(IpAddr::V6(address)) => {
            address.is_loopback()
                || address.is_unique_local()
                || address.is_unicast_link_local()
                || address.is_unspecified()
        }
        Err(_) => !host.contains('.') || [".localhost", ".local", ".internal"].iter().any(|end| host.ends_with(end)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> PriceList {
        PriceList::built_in()
    }
    fn openai() -> ProviderSettings {
        ProviderSettings::known("openai").unwrap()
    }
    fn dollars(text: f64) -> Money {
        Money::from_dollars(text).unwrap()
    }
    fn one_million_each() -> TokenUse {
        TokenUse { prompt: 1_000_000, cached_prompt: 0, completion: 1_000_000 }
    }
    /// An entry of a project's file, with one of its lines replaced.
    fn entry(old: &str, new: &str) -> String {
        let text = "[[price]]\nprovider = \"lab\"\nmodels = [\"small\"]\nprompt = 1\ncompletion = 2.5\n\
                    source = \"invoice\"\nchecked = \"2026-11-21\"\n";
        assert!(text.contains(old));
        text.replace(old, new)
    }
    fn refusal(text: &str) -> String {
        list().with_file(text, "prices.toml").unwrap_err().to_string()
    }

    #[test]
    fn the_list_in_the_program_is_valid_and_every_price_of_openai_is_half_in_a_batch() {
        for entry in &list().files[0].prices {
            let entry = entry.get_ref();
            assert!(entry.source.len() > 10, "{entry:?}");
            assert_eq!(
                entry.batch_factor,
                (entry.provider == "openai").then_some(Share::try_from(0.5).unwrap()),
                "{entry:?}"
            );
            assert!(entry.cached_prompt.is_none_or(|cached| cached < entry.prompt), "{entry:?}");
            assert!(entry.fine_tuned.is_some() == entry.training.is_some(), "{entry:?}");
        }
    }

    #[test]
    fn a_dated_model_and_its_bare_name_cost_the_same_and_its_smaller_sisters_less() {
        let cost = |model: &str| list().of("openai", &openai(), model).unwrap().cost(one_million_each());
        assert_eq!(cost("gpt-4.1"), dollars(10.0));
        assert_eq!(cost("gpt-4.1-2025-04-14"), dollars(10.0));
        assert_eq!(cost("gpt-4.1-mini"), dollars(2.0));
        assert_eq!(cost("gpt-4.1-nano-2025-04-14"), dollars(0.5));
    }

    #[test]
    fn a_fine_tune_has_the_price_of_fine_tunes_of_its_base() {
        for id in ["ft:gpt-4.1-2025-04-14:org:suffix:abc", "ft:gpt-4.1-2025-04-14:org::abc:ckpt-step-40"] {
            let price = list().of("openai", &openai(), id).unwrap();
            assert_eq!(price.cost(one_million_each()), dollars(15.0), "{id}");
            assert_eq!(price.batch_cost(one_million_each()), Some(dollars(7.5)), "{id}");
            assert_eq!(price.training_cost(2_000_000), Some(dollars(50.0)), "{id}");
        }
        let known_by_base = list().of_fine_tune("openai", &openai(), "gpt-4o-mini-2024-07-18").unwrap();
        assert_eq!(known_by_base.cost(one_million_each()), dollars(1.5));
        assert_eq!(list().of("openai", &openai(), "ft:gpt-5:org:s:id"), None, "nobody can fine-tune it");
    }

    #[test]
    fn what_nobody_listed_has_no_price_and_is_not_free() {
        for model in ["gpt-9", "gpt-4.1-audio-2027-01-01", "gpt-4o-2024-05-13", "ft:gpt-9:o:s:i", "ft:", ""] {
            assert_eq!(list().of("openai", &openai(), model), None, "{model}");
        }
        let paid = ProviderSettings::known("openrouter").unwrap();
        assert_eq!(list().of("openrouter", &paid, "openai/gpt-4.1"), None);
    }

    #[test]
    fn a_server_of_ones_own_is_free_unless_it_is_listed() {
        let near = ["http://127.0.0.1:8000/v1", "http://localhost/v1", "http://10.1.2.3/v1", "http://[::1]:8/v1"];
        for url in near.into_iter().chain(["http://gpu7:8000/v1", "http://gpu7.local/v1", "https://lab.example.org/v1"])
        {
            let price = list().of("lab", &ProviderSettings::of_url(url), "small").unwrap();
            assert!(price.is_free(), "{url}");
            assert_eq!(price.cost(one_million_each()), Money::ZERO);
            assert_eq!(price.training_cost(5), Some(Money::ZERO));
        }
        let listed = list().with_file(&entry("1\n", "1\n"), "prices.toml").unwrap();
        let price = listed.of("lab", &ProviderSettings::of_url(near[0]), "small").unwrap();
        assert_eq!(price.cost(one_million_each()), dollars(3.5));
    }

    #[test]
    fn a_far_server_that_wants_a_key_is_not_free() {
        let keys = ProviderSettings::known("openai").unwrap().keys;
        let settings = ProviderSettings { keys, ..ProviderSettings::of_url("https://api.example.com/v1") };
        assert_eq!(list().of("example", &settings, "small"), None);
    }

    #[test]
    fn an_azure_deployment_is_priced_by_the_model_it_serves() {
        let azure = r#"[[price]]
            provider = "azure"
            models = ["gpt-4.1-mini"]
            prompt = 0.4
            completion = 1.6
            source = "portal"
            checked = "2026-11-21""#;
        let deployments = [("mine".to_string(), "gpt-4.1-mini".to_string())].into();
        let base_url = Some("https://a.openai.azure.com".to_string());
        let dialect = Some(Dialect::Azure);
        let settings = ProviderSettings { deployments, base_url, dialect, ..ProviderSettings::default() };
        let list = list().with_file(azure, "prices.toml").unwrap();
        assert_eq!(list.of("azure", &settings, "mine").unwrap().cost(one_million_each()), dollars(2.0));
        assert_eq!(list.of("azure", &settings, "other"), None);
    }

    #[test]
    fn the_projects_file_goes_before_the_list_and_adds_to_it() {
        let file = entry("\"lab\"", "\"openai\"").replace("small", "gpt-4.1*");
        let list = list().with_file(&file, "prices.toml").unwrap();
        assert_eq!(list.of("openai", &openai(), "gpt-4.1").unwrap().cost(one_million_each()), dollars(3.5));
        assert_eq!(list.of("openai", &openai(), "gpt-4o-mini").unwrap().cost(one_million_each()), dollars(0.75));
        let tuned = list.of("openai", &openai(), "ft:gpt-4.1-2025-04-14:o:s:i").unwrap();
        assert_eq!(tuned.cost(one_million_each()), dollars(15.0), "the file says nothing of fine-tunes");
    }

    #[test]
    fn the_longest_beginning_decides_and_a_whole_name_goes_before_it() {
        let file = [("small*", 1), ("small-fast*", 3), ("small-fast-2", 7)]
            .map(|(model, price)| entry("\"small\"", &format!("\"{model}\"")).replace("= 1\n", &format!("= {price}\n")))
            .concat();
        let list = list().with_file(&file, "prices.toml").unwrap();
        let price = |model: &str| list.of("lab", &openai(), model).unwrap().prompt().dollars_per_million();
        assert_eq!(["small", "small-fast", "small-fast-20", "small-fast-2"].map(price), [1.0, 3.0, 3.0, 7.0]);
    }

    #[test]
    fn an_error_in_the_file_names_its_line_and_what_is_wrong() {
        let cases = [
            (entry("prompt = 1", "prompt = -1"), "line 4: a price is dollars per million tokens"),
            (entry("prompt = 1", "prompt = \"1\""), "line 4: invalid type"),
            (entry("prompt = 1", "promt = 1"), "line 4: unknown field `promt`"),
            (entry("2026-11-21", "2026-02-30"), "line 7: a date is `YYYY-MM-DD`, found `2026-02-30`"),
            (entry("2026-11-21\"\n", "2026-11-21\"\nbatch_factor = 2\n"), "line 8: `batch_factor` is above 0"),
            (entry("[\"small\"]", "[\"sm*ll\"]"), "line 3: a model is a name"),
            (entry("[\"small\"]", "[]"), "line 1: the entry names no model"),
            (entry("source = \"invoice\"\n", ""), "line 1: missing field `source`"),
            (entry("prompt = 1", "prompt ="), "line 4: "),
            (entry("1\n", "1\n") + entry("1\n", "1\n").as_str(), "line 8: `small` of `lab` stands in two entries"),
        ];
        for (text, wrong) in cases {
            let found = refusal(&text);
            assert!(found.starts_with(&format!("`prices.toml` {wrong}")), "{found}\nfor\n{text}");
        }
    }

    #[test]
    fn cached_prompts_are_cheaper_live_and_a_batch_knows_no_cache() {
        let price = list().of("openai", &openai(), "gpt-4.1").unwrap();
        let tokens = TokenUse { prompt: 1000, cached_prompt: 600, completion: 10 };
        assert_eq!(price.cost(tokens).nanos(), 400 * 2000 + 600 * 500 + 10 * 8000);
        assert_eq!(price.batch_cost(tokens).unwrap().nanos(), (1000 * 2000 + 10 * 8000) / 2);
        let together = list().of("together", &openai(), "openai/gpt-oss-120b").unwrap();
        assert_eq!(together.batch_cost(tokens), None, "its factor is not known");
    }

    #[test]
    fn a_single_cheap_call_is_exact_and_a_part_of_a_nano_dollar_is_rounded_up() {
        let price = list().of("openai", &openai(), "gpt-4.1-nano").unwrap();
        let one = TokenUse { prompt: 1, cached_prompt: 1, completion: 0 };
        assert_eq!(price.cost(one).nanos(), 25);
        let odd = list().of("openai", &openai(), "ft:gpt-4o-2024-08-06:o:s:i").unwrap();
        assert_eq!(odd.cost(TokenUse { prompt: 1, ..TokenUse::default() }).nanos(), 3750);
        let half = TokenUse { prompt: 0, cached_prompt: 0, completion: 1 };
        assert_eq!(list().of("openai", &openai(), "gpt-5").unwrap().batch_cost(half).unwrap().nanos(), 5000);
    }

    #[test]
    fn no_number_of_tokens_overflows() {
        let price = list().of("openai", &openai(), "gpt-4.1").unwrap();
        let all = TokenUse { prompt: u64::MAX, cached_prompt: 0, completion: u64::MAX };
        assert_eq!(price.cost(all), Money::from_nanos(u64::MAX));
        assert_eq!(price.batch_cost(all), Some(Money::from_nanos(u64::MAX)));
    }

    #[test]
    fn a_model_ends_on_its_day_and_its_fine_tunes_with_it() {
        let end = |model: &str, what| list().end("openai", model, what).map(|day| day.to_string());
        assert_eq!(end("gpt-4.1-2025-04-14", Ending::Model).as_deref(), Some("2027-01-14"));
        assert_eq!(end("ft:gpt-4.1-2025-04-14:o:s:i", Ending::Model).as_deref(), Some("2027-01-14"));
        assert_eq!(end("anything", Ending::FineTuning).as_deref(), Some("2027-01-06"));
        assert_eq!(end("gpt-9", Ending::Model), None);
        assert_eq!(list().end("together", "Qwen/Qwen3.5-9B", Ending::FineTuning), None);
    }
}
