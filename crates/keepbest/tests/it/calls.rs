//! System calls that fail for good, in the real program: a library loaded before the C library answers for it.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Place, Said};

/// Directories cannot be closed, reads or writes in a run are interrupted without end, or nothing more can be written to it once a file
/// is there.
const FAILING: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int fails(const char *call) {
    const char *which = getenv("FAILING");
    for (; which && *which && *call; which++, call++)
        if (*which != *call) return 0;
    return which && !*which && !*call;
}

static int in_a_run(int file) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, "/runs/") != 0;
}

/// The error of a write, 0 for one that is made.
static int refused(int file) {
    if (fails("write") && in_a_run(file)) return EINTR;
    const char *full = getenv("FULL");
    return full && access(full, F_OK) == 0 && in_a_run(file) ? ENOSPC : 0;
}

ssize_t read(int file, void *into, size_t length) {
    ssize_t (*real)(int, void *, size_t) = dlsym(RTLD_NEXT, "read");
    if (!fails("read") || !in_a_run(file)) return real(file, into, length);
    errno = EINTR;
    return -1;
}

ssize_t write(int file, const void *from, size_t length) {
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    int error = refused(file);
    if (!error) return real(file, from, length);
    errno = error;
    return -1;
}

ssize_t writev(int file, const struct iovec *from, int count) {
    ssize_t (*real)(int, const struct iovec *, int) = dlsym(RTLD_NEXT, "writev");
    int error = refused(file);
    if (!error) return real(file, from, count);
    errno = error;
    return -1;
}

int closedir(void *directory) {
    int (*real)(void *) = dlsym(RTLD_NEXT, "closedir");
    int closed = real(directory);
    if (!fails("closedir")) return closed;
    errno = EIO;
    return -1;
}

int flock(int file, int operation) {
    int (*real)(int, int) = dlsym(RTLD_NEXT, "flock");
    if (!fails("flock")) return real(file, operation);
    errno = EIO;
    return -1;
}

int mkdir(const char *path, mode_t mode) {
    int (*real)(const char *, mode_t) = dlsym(RTLD_NEXT, "mkdir");
    if (!fails("mkdir") || !strstr(path, "runs/.")) return real(path, mode);
    errno = EROFS;
    return -1;
}

int pthread_create(void *thread, const void *how, void *(*start)(void *), void *with) {
    int (*real)(void *, const void *, void *(*)(void *), void *) =
        dlsym(RTLD_NEXT, "pthread_create");
    return fails("pthread_create") ? EAGAIN : real(thread, how, start, with);
}

ssize_t pread64(int file, void *into, size_t length, off_t at) {
    ssize_t (*real)(int, void *, size_t, off_t) = dlsym(RTLD_NEXT, "pread64");
    if (!fails("pread64")) return real(file, into, length, at);
    errno = EINTR;
    return -1;
}
"#;

fn ended(mut child: Child, what: &str) -> Said {
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_secs(300) {
            child.kill().unwrap();
            panic!("{what} does not come to an end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Said::of(child.wait_with_output().unwrap())
}

/// Runs the program with the library.
fn with_failing(place: &Place, call: &str, args: &str) -> Said {
    ended(started_with_failing(place, call, args), args)
}

/// Builds the library with the C compiler that links Rust's programs, and starts the program with it.
fn started_with_failing(place: &Place, call: &str, args: &str) -> Child {
    let library = place.path("failing.so");
    if !library.exists() {
        let source = place.path("failing.c");
        std::fs::write(&source, FAILING).unwrap();
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .status();
        assert!(built.unwrap().success());
    }
    let mut command = place.command(args);
    let child = command
        .env("LD_PRELOAD", &library)
        .env("FAILING", call)
        .env("FULL", place.path("full"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    child.unwrap()
}

#[test]
fn a_directory_that_cannot_be_closed_ends_nothing() {
    let place = Place::with_data();
    place.trained("run", "--keep last:2");
    for verb in [
        "fsck run",
        "fsck run --repair",
        "list",
        "show run",
        "verify run --digest-only",
        "archive run",
        "train --resume run --epochs 3",
    ] {
        let said = with_failing(&place, "closedir", verb);
        assert_eq!(said.code, 0, "{verb}: {}", said.err);
    }
    // What is no run is looked for by the names of the runs there are.
    with_failing(&place, "closedir", "show rum").fails(1, &["did you mean run?"]);
}

#[test]
fn calls_that_are_interrupted_for_good_end_with_an_error_and_touch_nothing() {
    let place = Place::with_data();
    place.trained("run", "");
    let best = std::fs::read(place.path("runs/run/best.safetensors")).unwrap();
    for verb in ["fsck run --repair", "train --resume run --epochs 3"] {
        for call in ["pread64", "read"] {
            with_failing(&place, call, verb).fails(1, &["Interrupted"]);
        }
    }
    with_failing(&place, "write", "train --resume run --epochs 3").fails(1, &["Interrupted"]);
    // A run that needs no repair is not written to.
    assert_eq!(with_failing(&place, "write", "fsck run --repair").code, 0);
    assert!(std::fs::read(place.path("runs/run/best.safetensors")).unwrap() == best);
    place.ok("fsck run");
}

#[test]
fn a_disk_that_is_full_to_the_end_is_told_with_what_is_on_it() {
    let place = Place::with_data();
    let args = format!("train {} --epochs 40 --name run", crate::support::SMALL);
    let child = started_with_failing(&place, "", &args);
    let best = place.path("runs/run/best.safetensors");
    let begun = Instant::now();
    while !best.exists() {
        assert!(begun.elapsed() < Duration::from_secs(300), "no best");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::fs::write(place.path("full"), "").unwrap();
    let said = ended(child, &args);
    said.fails(
        1,
        &[
            "could not be saved",
            "runs/run/best.safetensors is that of epoch",
            "No space left on device",
            "keepbest train --resume runs/run",
        ],
    );
    place.ok("verify run --digest-only");
    std::fs::remove_file(place.path("full")).unwrap();
    // Who holds a run is a matter of the system's lock; the name in the file is only for people.
    place.ok("train --resume run --quiet");
    place.ok("verify run");
}

#[test]
fn a_lock_that_fails_is_not_taken_for_another_process() {
    let place = Place::with_data();
    place.trained("run", "--keep last:2");
    for verb in ["fsck run --repair", "archive run", "prune run"] {
        let said = with_failing(&place, "flock", verb);
        said.fails(1, &["cannot lock"]);
        assert!(!said.err.contains("wait for"), "{verb}: {}", said.err);
    }
}

#[test]
fn a_run_is_reproduced_where_nothing_can_be_written() {
    let place = Place::with_data();
    place.trained("run", "");
    let said = with_failing(&place, "mkdir", "reproduce run");
    assert_eq!(said.code, 0, "{}", said.err);
    // What a killed one left behind is told.
    std::fs::create_dir(place.path("runs/.reproducing-run-x")).unwrap();
    let said = place.ok("reproduce run");
    assert!(
        said.err
            .contains("runs/.reproducing-run-x is of a reproduce"),
        "{}",
        said.err
    );
}

#[test]
fn a_thread_that_does_not_start_is_not_taken_for_an_image() {
    let place = Place::with_data();
    let said = with_failing(
        &place,
        "pthread_create",
        &format!("train {} --name run", crate::support::SMALL),
    );
    said.fails(1, &["thread"]);
    assert!(!said.err.contains("image back"), "{}", said.err);
}
