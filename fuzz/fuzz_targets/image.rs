#![no_main]
// The decoders are other people's: where one panics, `decode_image` makes an error of it. libFuzzer's own hook would abort
// before that; a panic that nothing catches still ends the process.
libfuzzer_sys::fuzz_target!(
    init: std::panic::set_hook(Box::new(|panic| eprintln!("{panic}"))),
    |data: &[u8]| keepbest_fuzz::image(data)
);
