//! Lists in pages, as OpenAI's clients walk through them: newest first, `after` the last one they have.

use serde_json::{Value, json};

use super::error::{ApiError, ApiResult};

/// What a query string asks for; parts that a list does not know are ignored, as they are by OpenAI.
pub struct Query(pub Vec<(String, String)>);

impl Query {
    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
    /// Pairs of a field that is written `name[key]=value`.
    pub fn pairs<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().filter_map(move |(key, value)| {
            let inner = key.strip_prefix(name)?.strip_prefix('[')?.strip_suffix(']')?;
            Some((inner, value.as_str()))
        })
    }
}

/// The page of `items` (each with an `id`) that the query asks for.
pub fn page(items: Vec<Value>, query: &Query, default: usize, most: usize) -> ApiResult<Value> {
    let limit = match query.get("limit") {
        None => default,
        Some(text) => text.parse().ok().filter(|limit| (1..=most).contains(limit)).ok_or_else(|| {
            ApiError::invalid(
                "limit",
                format!("Invalid 'limit': expected an integer from 1 to {most}, but got {text}."),
            )
        })?,
    };
    let start = match query.get("after").filter(|id| !id.is_empty()) {
        None => 0,
        Some(id) => {
            let place = items.iter().position(|item| item["id"] == id);
            place.ok_or_else(|| ApiError::invalid("after", format!("Invalid 'after': there is no item {id}.")))? + 1
        }
    };
    let has_more = items.len() > start + limit;
    let data: Vec<Value> = items.into_iter().skip(start).take(limit).collect();
    let id = |item: Option<&Value>| item.map_or(Value::Null, |item| item["id"].clone());
    let (first, last) = (id(data.first()), id(data.last()));
    Ok(json!({ "object": "list", "data": data, "first_id": first, "last_id": last, "has_more": has_more }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(page: &Value) -> Vec<i64> {
        page["data"].as_array().unwrap().iter().map(|item| item["n"].as_i64().unwrap()).collect()
    }

    #[test]
    fn pages_follow_each_other_without_gap() {
        let items: Vec<Value> = (0..5).map(|n| json!({ "id": format!("i{n}"), "n": n })).collect();
        let ask = |query: &[(&str, &str)]| {
            let query = Query(query.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect());
            page(items.clone(), &query, 2, 100)
        };
        let first = ask(&[]).unwrap();
        assert_eq!((ids(&first), first["has_more"].as_bool()), (vec![0, 1], Some(true)));
        let last = ask(&[("limit", "3"), ("after", "i1")]).unwrap();
        assert_eq!((ids(&last), last["has_more"].as_bool()), (vec![2, 3, 4], Some(false)));
        for wrong in [("limit", "0"), ("limit", "x"), ("after", "gone")] {
            assert_eq!(ask(&[wrong]).unwrap_err().param.as_deref(), Some(wrong.0));
        }
    }

    #[test]
    fn metadata_filters_are_pairs() {
        let query = Query(vec![("metadata[key]".into(), "v".into()), ("metadata".into(), "null".into())]);
        assert_eq!(query.pairs("metadata").collect::<Vec<_>>(), [("key", "v")]);
    }
}
