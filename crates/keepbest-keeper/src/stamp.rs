//! The length of the journal when a file was written: in the file's provenance, beside what the training loop says there. A journal
//! that has fewer events than a file says was cut short.

use keepbest_formats::model_file::ModelMetadata;
use serde_json::{Map, Value, json};

const KEY: &str = "journal";

/// Puts the number of the journal's events into a provenance.
pub(crate) fn add(provenance: Option<Value>, events: u64) -> Option<Value> {
    let mut provenance = provenance.unwrap_or_else(|| Value::Object(Map::new()));
    // One that is no object has no room for it.
    if let Some(object) = provenance.as_object_mut() {
        object.insert(KEY.to_owned(), json!({ "events": events }));
    }
    Some(provenance)
}

/// The number of events that the journal had; `None` for files of earlier versions.
pub(crate) fn events(metadata: &ModelMetadata) -> Option<u64> {
    metadata.provenance.as_ref()?.get(KEY)?["events"].as_u64()
}

/// The provenance as the training loop gave it: without what the keeper put beside it.
#[must_use]
pub fn provenance_of(metadata: &ModelMetadata) -> Option<Value> {
    let mut provenance = metadata.provenance.clone()?;
    if let Some(object) = provenance.as_object_mut() {
        object.shift_remove(KEY);
        if object.is_empty() {
            return None;
        }
    }
    Some(provenance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepbest_formats::model_file::Attachments;

    #[test]
    fn what_is_put_in_comes_out_and_the_rest_stays() {
        for own in [None, Some(json!({"data": "photos"})), Some(json!("words"))] {
            let metadata = ModelMetadata {
                attachments: Attachments {
                    provenance: add(own.clone(), 7),
                    ..Attachments::default()
                },
                ..ModelMetadata::default()
            };
            let room = own.as_ref().is_none_or(Value::is_object);
            assert_eq!(events(&metadata), room.then_some(7));
            assert_eq!(provenance_of(&metadata), own);
        }
        assert_eq!(events(&ModelMetadata::default()), None);
    }
}
