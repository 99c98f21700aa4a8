//! Writing and reading a hundred thousand samples and as many judgements.

mod measure;

use std::time::{Duration, Instant, SystemTime};

use drylab::data::digest::Digest;
use drylab::store::{Judgement, Key, Sample, Store};
use measure::{Result, Table, asked, median};
use serde_json::json;

/// The program's own allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROWS: usize = 100_000;
/// Rows of one transaction; each is synced to the disk before the next begins.
const BATCH: usize = 1000;
const REPETITIONS: usize = 5;

fn samples() -> Result<Vec<Sample>> {
    let call = Digest::of(b"call");
    let mut samples = Vec::with_capacity(ROWS);
    for question in 0..ROWS / BATCH {
        let key = Key::new("sample", 1, json!({ "model": call, "question": question }), json!({}))?;
        samples.extend((0..BATCH).map(|sample| Sample {
            key: key.sample(sample as u64),
            call,
            question_index: question as u32,
            sample_index: sample as u32,
            answer:
                format!("an answer of some thirty words to question {question}, the {sample}th of them; ").repeat(3),
            finish: "stop".to_string(),
            tokens: 40,
            logprob: Some(-12.5),
            created_at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_000_000),
        }));
    }
    Ok(samples)
}

fn judgements(samples: &[Sample]) -> Vec<Judgement> {
    let verdict = |sample: &Sample| Judgement {
        key: Digest::of(&sample.key.0),
        sample: Some(sample.key),
        judge: "pattern".to_string(),
        score: Some(0.5),
        reason: None,
        detail: None,
    };
    samples.iter().map(verdict).collect()
}

fn seconds(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed().as_secs_f64())
}

fn main() -> Result<()> {
    if !asked() {
        return Ok(());
    }
    let columns = ["rows", "write s", "read s", "rows written/s", "rows read/s", "read x write"];
    let mut table = Table::new("store: 100 000 rows, 1000 in a transaction, each synced", &columns);
    let samples = samples()?;
    let verdicts = judgements(&samples);
    let sample_keys: Vec<Digest> = samples.iter().map(|sample| sample.key).collect();
    let verdict_keys: Vec<Digest> = verdicts.iter().map(|verdict| verdict.key).collect();
    let mut times = [const { Vec::new() }; 4];
    for _ in 0..REPETITIONS {
        let folder = tempfile::tempdir()?;
        let store = Store::open(folder.path())?;
        times[0].push(seconds(|| Ok(samples.chunks(BATCH).try_for_each(|batch| store.put_samples(batch))?))?);
        times[2].push(seconds(|| Ok(verdicts.chunks(BATCH).try_for_each(|batch| store.put_judgements(batch))?))?);
        drop(store);
        // Opened anew, as the next run of a script finds it.
        let store = Store::open(folder.path())?;
        let mut found = 0;
        times[1].push(seconds(|| {
            for keys in sample_keys.chunks(BATCH) {
                found += store.get_samples(keys)?.iter().flatten().filter(|sample| !sample.answer.is_empty()).count();
            }
            Ok(())
        })?);
        times[3].push(seconds(|| {
            for keys in verdict_keys.chunks(BATCH) {
                found += store.get_judgements(keys)?.iter().flatten().filter(|verdict| verdict.score.is_some()).count();
            }
            Ok(())
        })?);
        assert_eq!(found, 2 * ROWS);
    }
    for (name, times) in ["samples", "judgements"].iter().zip(times.chunks(2)) {
        let (write, read) = (median(&times[0]), median(&times[1]));
        let rows = ROWS as f64;
        let cells = [write, read, rows / write, rows / read, write / read];
        table.push([json!(name)].into_iter().chain(cells.map(|cell| json!(cell))).collect());
    }
    table.print();
    Ok(())
}
