//! On what a model was trained: recorded so that a result can be traced, never read back to decide anything.

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use keepbest_nn::{CPU, Engine};
use serde::{Deserialize, Serialize};

/// The program, the machine and the working directory of a session of training.
///
/// Nothing private is taken down: no user or host name, no environment variables; the home directory in an argument
/// becomes `~`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Environment {
    /// The command line, the program's name without its folder.
    pub command: Vec<String>,
    /// `release` or `debug`.
    pub build: String,
    /// Operating system and architecture, as Rust names them.
    pub platform: String,
    /// What the processor can do, of what matters here.
    pub cpu_features: Vec<String>,
    /// The instruction set in use, or the model of the device.
    pub isa: String,
    /// The device that computes.
    #[serde(default = "cpu", skip_serializing_if = "is_cpu")]
    pub device: String,
    /// The software that computes, with its versions; absent for keepbest's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software: Option<String>,
    /// Threads in use.
    pub threads: usize,
    /// The commit that the working directory is at; absent outside of git.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<Git>,
    /// When the session began, milliseconds since 1970.
    pub started_ms: u64,
}

/// A working directory under git.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Git {
    /// The commit.
    pub commit: String,
    /// Whether files that git knows differ from it.
    pub dirty: bool,
}

impl Environment {
    /// What computes, in words: `keepbest on cpu (avx512)`, `PyTorch 2.9 on cuda (NVIDIA H200)`.
    #[must_use]
    pub fn engine(&self) -> String {
        let software = self.software.as_deref().unwrap_or("keepbest");
        format!("{software} on {} ({})", self.device, self.isa)
    }

    /// The environment of this process and its engine.
    #[must_use]
    pub fn of(engine: &dyn Engine) -> Self {
        let home = std::env::var("HOME").ok();
        Self {
            command: command_line(std::env::args(), home.as_deref()),
            build: if cfg!(debug_assertions) {
                "debug".into()
            } else {
                "release".into()
            },
            platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            cpu_features: cpu_features(),
            isa: engine.processor(),
            device: engine.device().to_owned(),
            software: engine.software(),
            threads: engine.threads(),
            git: git(),
            started_ms: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |time| time.as_millis() as u64),
        }
    }
}

fn cpu() -> String {
    CPU.to_owned()
}

fn is_cpu(device: &str) -> bool {
    device == CPU
}

fn command_line(mut args: impl Iterator<Item = String>, home: Option<&str>) -> Vec<String> {
    let program = args.next().unwrap_or_default();
    let name = Path::new(&program).file_name();
    let mut command = vec![name.map_or_else(String::new, |name| name.to_string_lossy().into())];
    command.extend(args.map(|arg| match home {
        Some(home) if home.len() > 1 => arg.replace(home, "~"),
        _ => arg,
    }));
    command
}

#[cfg(target_arch = "x86_64")]
fn cpu_features() -> Vec<String> {
    macro_rules! present {
        ($($name:tt),*) => {
            [$(($name, std::arch::is_x86_feature_detected!($name))),*]
        };
    }
    present!(
        "sse4.2",
        "avx",
        "avx2",
        "fma",
        "avx512f",
        "avx512bw",
        "avx512vl",
        "avx512bf16"
    )
    .into_iter()
    .filter(|(_, present)| *present)
    .map(|(name, _)| name.to_owned())
    .collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu_features() -> Vec<String> {
    Vec::new()
}

fn git() -> Option<Git> {
    let ask = |args: &[&str]| {
        let answer = Command::new("git")
            .arg("--no-optional-locks")
            .args(args)
            .output()
            .ok()?;
        answer
            .status
            .success()
            .then(|| String::from_utf8_lossy(&answer.stdout).trim().to_owned())
    };
    Some(Git {
        commit: ask(&["rev-parse", "--verify", "HEAD"])?,
        dirty: !ask(&["status", "--porcelain", "--untracked-files=no"])?.is_empty(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_gives_nobody_away() {
        let args = [
            "/home/ann/bin/keepbest",
            "train",
            "--data=/home/ann/pictures",
        ];
        let told = command_line(args.iter().map(ToString::to_string), Some("/home/ann"));
        assert_eq!(told, ["keepbest", "train", "--data=~/pictures"]);
    }
}
