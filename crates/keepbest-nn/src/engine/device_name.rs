//! The names of devices.

/// The device that every build computes on, with code of ours: the default.
pub const CPU: &str = "cpu";

/// The names that devices have, the default first; `N` is a number. All but the first compute with PyTorch, in the Python package.
pub const DEVICES: &[&str] = &[CPU, "cuda", "cuda:N", "mps", "xpu", "xpu:N", "torch:cpu"];

/// Whether a name has one of the forms of [`DEVICES`].
pub fn is_device_name(device: &str) -> bool {
    DEVICES.iter().any(|form| match form.strip_suffix('N') {
        Some(kind) => device
            .strip_prefix(kind)
            .is_some_and(|number| number.parse::<u16>().is_ok_and(|n| n.to_string() == number)),
        None => *form == device,
    })
}

#[cfg(test)]
mod tests {
    use super::is_device_name;

    #[test]
    fn names_have_a_form() {
        for name in [
            "cpu",
            "cuda",
            "cuda:0",
            "cuda:12",
            "mps",
            "xpu:1",
            "torch:cpu",
        ] {
            assert!(is_device_name(name), "{name}");
        }
        for name in [
            "",
            "gpu",
            "cuda:",
            "cuda:N",
            "cuda:-1",
            "cuda:01",
            "cuda:70000",
            "mps:0",
            "CPU",
        ] {
            assert!(!is_device_name(name), "{name}");
        }
    }
}
