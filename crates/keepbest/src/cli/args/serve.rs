//! Flags of `serve`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use keepbest_core::size::parse_size;
use keepbest_model::DEFAULT_RUNS_DIR;

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The models, each under its own name or as NAME=MODEL; all runs when none is named
    pub models: Vec<String>,
    /// Folder that holds the runs
    #[arg(long, visible_alias = "runs", value_name = "DIR", default_value = DEFAULT_RUNS_DIR)]
    pub runs_dir: PathBuf,
    /// Address to listen at; 0.0.0.0 lets other machines ask
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// Port to listen at; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub port: u16,
    /// Memory for loaded models; the least recently used leaves when another is loaded
    #[arg(long, value_name = "SIZE", default_value = "2GiB", value_parser = size)]
    pub memory: u64,
    /// Images computed at once
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    pub batch_size: u16,
    /// Longest that an image waits for others that are on their way
    #[arg(long, value_name = "TIME", default_value = "2ms", value_parser = time)]
    pub max_delay: Duration,
    /// Batches of a model computed at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    pub workers: u8,
    /// Threads that compute a batch; by default the cores, shared among the workers
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Requests under way; more are answered with 429
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    pub queue: u32,
    /// Time for an answer
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    pub timeout: Duration,
    /// Time for what is under way when the server is told to stop
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    pub drain: Duration,
    /// Largest body of a request
    #[arg(long, value_name = "SIZE", default_value = "32MiB", value_parser = size)]
    pub max_body: u64,
    /// Most pixels of an image
    #[arg(long, value_name = "N", default_value_t = 64_000_000)]
    pub max_pixels: u64,
    /// Most connections
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections: u32,
    /// Time for a request's headers, and for its body
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    pub read_timeout: Duration,
    /// Refuse images of a size or kind that a model has not seen, instead of converting them
    #[arg(long)]
    pub strict: bool,
    /// File with an API key a line; requests must bring one
    #[arg(long, value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// Certificate to speak TLS with, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Let pages of this origin ask, with its scheme (https://...); may be given several times
    #[arg(long, value_name = "ORIGIN")]
    pub cors: Vec<String>,
    /// Let clients load and unload models
    #[arg(long)]
    pub allow_load: bool,
    /// Let the dashboard pin checkpoints and stop trainings; takes --keys
    #[arg(long)]
    pub allow_actions: bool,
    /// Write a line of JSON for every request to this file, or to stdout with -
    #[arg(long, value_name = "FILE")]
    pub access_log: Option<PathBuf>,
}

fn size(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| "a size is 512MiB, 2GiB or a number of bytes".to_owned())
}

/// A time such as `500us`, `2ms` or `1.5s`.
fn time(text: &str) -> Result<Duration, String> {
    let units = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0)];
    let read = units.iter().find_map(|(unit, seconds)| {
        let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
        Duration::try_from_secs_f64(number * seconds).ok()
    });
    // A day is for ever.
    read.filter(|time| time.as_secs() <= 86_400)
        .ok_or_else(|| "a time is 500us, 2ms, 1.5s or 10m, up to a day".to_owned())
}
