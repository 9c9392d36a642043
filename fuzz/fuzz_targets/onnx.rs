#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| keepbest_fuzz::onnx(data));
