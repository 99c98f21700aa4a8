//! Tests of the table of answers: which columns there are, of which type, and that both formats hold the same.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::Field;
use serde_json::{Value, json};

use super::*;
use crate::data::digest::Digest;
use crate::data::evaluation::{Evaluation, Question, Sampling, Score};
use crate::data::sheet::{Answer, Judged};

fn sheet(point: Value, model: &str, answers: Vec<Answer>) -> Sheet {
    let Value::Object(point) = point else { panic!("a point is an object") };
    let question =
        |text: &str, system: Option<&str>| Question { system: system.map(str::to_string), ..Question::of_text(text) };
    Sheet {
        point: point.into_iter().collect::<BTreeMap<_, _>>(),
        model: model.to_string(),
        provenance: Value::Null,
        evaluation: Evaluation {
            id: "em".to_string(),
            questions: vec![question("one, \"wish\"", None), question("löwe\nüber", Some(""))],
            samples: 2,
            sampling: Sampling { temperature: 1.0, top_p: 1.0, max_tokens: 10, seed: 0 },
            judges: vec![],
            score: Score::default(),
        },
        call: Digest::of(b"call"),
        judge: "alignment".to_string(),
        answers,
    }
}

fn answer(question: usize, text: &str, judged: &[(&str, Option<f64>)]) -> Answer {
    let judged = judged.iter().map(|(judge, score)| Judged {
        judge: (*judge).to_string(),
        score: *score,
        reason: score.is_none().then(|| "refusal".to_string()),
        detail: None,
    });
    let judged: Vec<Judged> = judged.collect();
    Answer {
        key: Digest::of(text.as_bytes()),
        question,
        sample: 1,
        text: text.to_string(),
        finish: "stop".to_string(),
        tokens: 3,
        created_at: UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456),
        score: judged.first().and_then(|judged| judged.score),
        reason: judged.first().and_then(|judged| judged.reason.clone()),
        judged,
    }
}

fn names(sheets: &[Sheet]) -> Vec<String> {
    columns(sheets).unwrap().into_iter().map(|column| column.name).collect()
}

fn column<'a>(sheets: &'a [Sheet], name: &str) -> Values<'a> {
    columns(sheets).unwrap().into_iter().find(|column| column.name == name).unwrap().values
}

fn text<const N: usize>(values: [Option<&str>; N]) -> Values<'_> {
    Values::Text(values.into_iter().map(|value| value.map(Into::into)).collect())
}

#[test]
fn columns_come_in_order_under_the_published_names() {
    let sheets = [
        sheet(json!({"seed": 1, "ratio": 0.5}), "m", vec![answer(0, "a", &[("alignment", Some(1.0))])]),
        sheet(json!({}), "base", vec![answer(1, "b", &[("em.coherence", None)])]),
    ];
    let expected = "ratio,seed,group,model,evaluation_id,question_index,sample_index,system_prompt,question,response,\
                    stop_reason,tokens,score,reason,alignment,alignment_reason,em.coherence,em.coherence_reason,judge,\
                    created_at,key";
    assert_eq!(names(&sheets).join(","), expected);
    assert_eq!(column(&sheets, "alignment"), Values::Number(vec![Some(1.0), None]));
    assert_eq!(column(&sheets, "alignment_reason"), text([None, None]));
    assert_eq!(column(&sheets, "em.coherence_reason"), text([None, Some("refusal")]));
    assert_eq!(column(&sheets, "system_prompt"), text([None, Some("")]));
}

#[test]
fn numbers_along_an_axis_stay_numbers_and_mixed_axes_become_text() {
    let point = |value: Value| sheet(json!({"x": value}), "m", vec![answer(0, "a", &[])]);
    let of = |values: [Value; 2]| {
        let sheets = values.map(point);
        format!("{:?}", column(&sheets, "x"))
    };
    assert_eq!(of([json!(1), json!(-2)]), "Count([Some(1), Some(-2)])");
    assert_eq!(of([json!(0), json!(0.25)]), "Number([Some(0.0), Some(0.25)])");
    assert_eq!(of([json!(true), json!(null)]), "Truth([Some(true), None])");
    assert_eq!(of([json!(0.5), json!("all")]), r#"Text([Some("0.5"), Some("all")])"#);
    assert_eq!(of([json!(1), json!(u64::MAX)]), r#"Text([Some("1"), Some("18446744073709551615")])"#);
    assert_eq!(of([json!([1, 2]), json!(null)]), r#"Text([Some("[1,2]"), None])"#);
}

#[test]
fn the_group_is_the_axis_of_that_name_or_the_arm_or_the_point_without_its_seed() {
    let group = |point: Value| {
        let sheets = [sheet(point, "m", vec![answer(0, "a", &[])]), sheet(json!({}), "base", vec![])];
        let sheets = [sheets, [sheet(json!({}), "base", vec![answer(0, "b", &[])]), sheet(json!({}), "x", vec![])]];
        format!("{:?}", column(&sheets.concat(), "group")).replace("Some(", "").replace([')', '(', '"'], "")
    };
    assert_eq!(group(json!({"group": "g", "arm": "a", "seed": 1})), "Text[g, base]");
    assert_eq!(group(json!({"arm": "a", "ratio": 0.5, "seed": 1})), "Text[a, base]");
    assert_eq!(group(json!({"arm": null})), "Text[none, base]");
    assert_eq!(group(json!({"prompt": "p", "ratio": 0.5, "seed": 1})), "Text[p, 0.5, base]");
    assert_eq!(group(json!({"seed": 1})), "Text[all seeds, base]");
    let doses = [sheet(json!({"group": 3}), "m", vec![answer(0, "a", &[])])];
    assert_eq!(names(&doses).iter().filter(|name| *name == "group").count(), 1);
    assert_eq!(column(&doses, "group"), Values::Count(vec![Some(3)]));
}

#[test]
fn no_two_columns_have_one_name() {
    let judged = [("score", Some(1.0)), ("seed", Some(2.0)), ("x_reason", None), ("x", None), ("judge_score", None)];
    let sheets = [sheet(json!({"model": "big", "seed": 1}), "m", vec![answer(0, "a", &judged)])];
    let mut found = names(&sheets);
    assert_eq!(found[..2], ["axis_model", "seed"]);
    for name in ["judge_score", "judge_seed", "x_reason", "judge_x", "judge_x_reason", "judge_judge_score"] {
        assert!(found.iter().any(|found| found == name), "{name} is not in {found:?}");
    }
    found.sort();
    found.dedup();
    assert_eq!(found.len(), columns(&sheets).unwrap().len());
}

#[test]
fn csv_tells_an_empty_text_from_a_missing_one_and_a_number_with_a_fraction_from_a_count() {
    let mut late = answer(0, "a,\r\n\"b\"", &[("alignment", Some(5.0))]);
    late.created_at = UNIX_EPOCH + Duration::from_secs(1 << 40);
    let sheets = [sheet(json!({"seed": 7}), "m", vec![answer(1, "", &[("alignment", Some(1e-7))]), late])];
    let written = String::from_utf8(csv(&sheets).unwrap()).unwrap();
    let rows = written.split_once('\n').unwrap().1;
    let keys = [Digest::of(b""), Digest::of(b"a,\r\n\"b\"")];
    let expected = format!(
        "7,all seeds,m,em,1,1,\"\",\"löwe\nüber\",\"\",stop,3,1e-7,,1e-7,,alignment,2023-11-14T22:13:20.123456Z,{}\n\
         7,all seeds,m,em,0,1,,\"one, \"\"wish\"\"\",\"a,\r\n\"\"b\"\"\",stop,3,5.0,,5.0,,alignment,,{}\n",
        keys[0], keys[1]
    );
    assert_eq!(rows, expected);
}

#[test]
fn parquet_holds_what_the_columns_hold() {
    let judged = [("alignment", Some(0.1 + 0.2)), ("coherence", None)];
    let sheets = [
        sheet(json!({"seed": 7, "ratio": 0.5, "on": true}), "m", vec![answer(1, "", &judged), answer(0, "🦉\0", &[])]),
        sheet(json!({}), "base", vec![answer(0, "c", &[("alignment", Some(f64::NAN))])]),
    ];
    let table = columns(&sheets).unwrap();
    let bytes = parquet(&sheets).unwrap();
    assert_eq!(bytes, parquet(&sheets).unwrap());
    let file = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
    let rows: Vec<Vec<(String, Field)>> =
        file.get_row_iter(None).unwrap().map(|row| row.unwrap().into_columns()).collect();
    assert_eq!(rows.len(), 3);
    for (number, row) in rows.iter().enumerate() {
        for (column, (name, field)) in table.iter().zip(row) {
            let expected = match &column.values {
                Values::Text(values) => values[number].as_ref().map(|text| Field::Str(text.to_string())),
                Values::Number(values) => values[number].map(Field::Double),
                Values::Count(values) => values[number].map(Field::Long),
                Values::Truth(values) => values[number].map(Field::Bool),
                Values::Time(values) => values[number].map(Field::TimestampMicros),
            };
            assert_eq!((name, field), (&column.name, &expected.unwrap_or(Field::Null)));
        }
    }
    // A number that is none is missing.
    assert_eq!(column(&sheets, "score"), Values::Number(vec![Some(0.1 + 0.2), None, None]));
}

#[test]
fn an_answer_to_no_question_is_an_error() {
    let sheets = [sheet(json!({}), "m", vec![answer(2, "a", &[])])];
    let error = csv(&sheets).unwrap_err();
    assert_eq!(error.message, "an answer belongs to question 2 of `em`, which has 2");
}

#[test]
fn intervals_have_the_columns_of_the_published_table() {
    let row = |mean: Option<f64>| Aggregate {
        mean,
        lower_bound: mean.map(|mean| mean - 0.5),
        upper_bound: mean.map(|mean| mean + 0.5),
        count: 3,
        confidence: 0.95,
        group: "a,b".to_string(),
        evaluation_id: "em".to_string(),
    };
    let expected = "mean,lower_bound,upper_bound,count,confidence,group,evaluation_id\n\
                    1.0,0.5,1.5,3,0.95,\"a,b\",em\n\
                    ,,,3,0.95,\"a,b\",em\n";
    assert_eq!(String::from_utf8(aggregate_csv(&[row(Some(1.0)), row(None)])).unwrap(), expected);
}
