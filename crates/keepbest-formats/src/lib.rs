//! State dicts to bytes and back: safetensors and keepbest's full-model schema, hostile input first.
