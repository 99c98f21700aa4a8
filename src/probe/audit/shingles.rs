//! Near copies by texts: the share of word sequences (shingles) that two texts have in common, by inverted index.

use std::collections::HashMap;

use rayon::prelude::*;

use super::duplicates::finding;
use super::matches::{At, Match, Near, number};
use super::{Finding, Kind, Options, Part, Severity};

/// Shingles that stand in more texts of a source than this are forms and greetings, and say nothing about any one ...
const COMMON_TEXTS: usize = 10;
/// ... where that is also more than one part in this many of the source.
const COMMON_SHARE: usize = 4;

/// The training rows whose text is similar to one that is evaluated on, by pair of sources, and those whose text is
/// similar to an earlier training row's. Containment is the number of different shingles in both, over the number in
/// the one that has fewer: so a text is found within a longer one, whichever side it is on.
pub(super) fn similar(parts: &[Part<'_>], options: &Options) -> Vec<Near> {
    let read = |rows: for<'p, 's> fn(&'p Part<'s>) -> &'p [usize]| -> Vec<Text> {
        let places: Vec<At> = parts
            .iter()
            .enumerate()
            .filter(|(_, part)| part.source.texts.is_some())
            .flat_map(|(source, part)| rows(part).iter().map(move |row| At { source, row: *row }))
            .collect();
        let text = |at: At| {
            let texts = parts[at.source].source.texts.expect("only sources with texts are read");
            Text { at, shingles: shingles(&texts[at.row], options.shingle) }
        };
        places.into_par_iter().map(text).collect()
    };
    let (training, evaluation) = (read(|part| &part.training), read(|part| &part.evaluation));
    let mut found = Vec::new();
    let index = Index::new(&evaluation, parts.len());
    let best: Vec<Vec<Option<Match>>> =
        training.par_iter().map(|text| index.best_by_source(text, usize::MAX)).collect();
    for source in 0..parts.len() {
        for other in 0..parts.len() {
            let of_source = training.iter().zip(&best).filter(|(text, _)| text.at.source == source);
            let best: Vec<Match> = of_source.filter_map(|(_, best)| best[other]).collect();
            found.push(Near::from_best(source, Some(other), best, options.containment));
        }
    }
    let index = Index::new(&training, parts.len());
    let best_earlier = |(place, text): (usize, &Text)| -> Option<Match> {
        let best = index.best_by_source(text, place).into_iter().flatten();
        best.min_by(|a, b| b.score.total_cmp(&a.score).then(a.other.cmp(&b.other)))
    };
    let best: Vec<Match> = training.par_iter().enumerate().filter_map(best_earlier).collect();
    found.push(Near::from_best(0, None, best, options.containment));
    found.retain(|near| !near.matches.is_empty());
    found
}

/// Turns what was found into findings.
pub(super) fn findings(parts: &[Part<'_>], found: &[Near], options: &Options) -> Vec<Finding> {
    let of = |near: &Near| {
        let (count, size) = (near.matches.len(), options.shingle);
        let verb = if count == 1 { "shares" } else { "share" };
        let range = near.range(parts);
        let tail = format!("containment {range}");
        let Some(other) = near.evaluation else {
            let with_texts = parts.iter().filter(|part| part.source.texts.is_some());
            let all = number(with_texts.map(|part| part.training.len()).sum(), "training row");
            let message = format!("{count} of the {all} {verb} {size}-word shingles with an earlier one: {tail}");
            let kind = Kind::SimilarTextsInTraining;
            return finding(parts, kind, Severity::Warning, message, &near.matches, options);
        };
        let (part, other) = (&parts[near.training], parts[other].source.name);
        let (all, name) = (number(part.training.len(), "training row"), part.source.name);
        let message = format!(
            "{count} of the {all} of `{name}` {verb} {size}-word shingles with a row that `{other}` is evaluated on: \
             {tail}"
        );
        finding(parts, Kind::SimilarTexts, Severity::Severe, message, &near.matches, options)
    };
    found.iter().map(of).collect()
}

struct Text {
    at: At,
    /// Hashes of its different shingles, ascending.
    shingles: Vec<u64>,
}

/// Which texts a shingle stands in.
struct Index<'a> {
    texts: &'a [Text],
    sources: usize,
    /// Shingles and texts, ascending; without the shingles that stand in too many texts.
    entries: Vec<(u64, u32)>,
    /// Entry at which the shingles with these leading bits start.
    starts: Vec<u32>,
    /// How far to shift a shingle for its leading bits.
    shift: u32,
    /// Shingles that were left out.
    common: Vec<u64>,
    /// Shingles of each text that were not.
    sizes: Vec<usize>,
}

impl<'a> Index<'a> {
    fn new(texts: &'a [Text], sources: usize) -> Self {
        let numbered = texts.iter().enumerate();
        let mut entries: Vec<(u64, u32)> = numbered
            .flat_map(|(number, text)| text.shingles.iter().map(move |shingle| (*shingle, number as u32)))
            .collect();
        entries.par_sort_unstable();
        let source = |entry: &(u64, u32)| texts[entry.1 as usize].at.source;
        let mut rows = vec![0; sources];
        texts.iter().for_each(|text| rows[text.at.source] += 1);
        // Texts stand in the order of their sources, so that a shingle's texts of one source stand together.
        let alike = entries.chunk_by(|a, b| a.0 == b.0 && source(a) == source(b));
        let is_common = |alike: &&[(u64, u32)]| alike.len() > COMMON_TEXTS.max(rows[source(&alike[0])] / COMMON_SHARE);
        let mut common: Vec<u64> = alike.filter(is_common).map(|alike| alike[0].0).collect();
        common.dedup();
        entries.retain(|(shingle, _)| common.binary_search(shingle).is_err());
        let mut sizes = vec![0; texts.len()];
        entries.iter().for_each(|(_, text)| sizes[*text as usize] += 1);
        let bits = (usize::BITS - entries.len().leading_zeros()).clamp(1, 28);
        let shift = u64::BITS - bits;
        let mut starts = vec![0u32; (1 << bits) + 1];
        entries.iter().for_each(|(shingle, _)| starts[(shingle >> shift) as usize + 1] += 1);
        (1..starts.len()).for_each(|place| starts[place] += starts[place - 1]);
        Index { texts, sources, entries, starts, shift, common, sizes }
    }

    /// The text of each source that contains most of `query`, or the other way round, among the first `before`.
    fn best_by_source(&self, query: &Text, before: usize) -> Vec<Option<Match>> {
        let mut shared: HashMap<u32, usize> = HashMap::new();
        let mut size = 0;
        for shingle in &query.shingles {
            if !self.common.is_empty() && self.common.binary_search(shingle).is_ok() {
                continue;
            }
            size += 1;
            let place = (shingle >> self.shift) as usize;
            let entries = &self.entries[self.starts[place] as usize..self.starts[place + 1] as usize];
            for (_, text) in entries.iter().filter(|(found, text)| found == shingle && (*text as usize) < before) {
                *shared.entry(*text).or_default() += 1;
            }
        }
        let mut best: Vec<Option<Match>> = vec![None; self.sources];
        let mut shared: Vec<(u32, usize)> = shared.into_iter().collect();
        shared.sort_unstable();
        for (text, count) in shared {
            let other = self.texts[text as usize].at;
            let score = count as f64 / size.min(self.sizes[text as usize]) as f64;
            let best = &mut best[other.source];
            if best.is_none_or(|best| score > best.score) {
                *best = Some(Match { training: query.at, other, score });
            }
        }
        best
    }
}

/// Hashes of the different runs of `size` words, in lower case, between white space. A shorter text is one shingle.
fn shingles(text: &str, size: usize) -> Vec<u64> {
    let words: Vec<u64> = text.split_whitespace().map(hash_word).collect();
    let windows = words.windows(size.min(words.len()).max(1));
    let mut shingles: Vec<u64> =
        windows.map(|words| words.iter().fold(words.len() as u64, |hash, word| mix(hash, *word))).collect();
    shingles.sort_unstable();
    shingles.dedup();
    shingles
}

fn hash_word(word: &str) -> u64 {
    word.chars().flat_map(char::to_lowercase).fold(0, |hash, letter| mix(hash, u64::from(letter) + 1))
}

/// Two steps of a multiplicative hash; in 10^7 shingles two meet by chance with probability below 10^-5.
fn mix(hash: u64, next: u64) -> u64 {
    let mixed = (hash.rotate_left(23) ^ next).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ (mixed >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93)
}
