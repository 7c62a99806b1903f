//! One measurement in a process of its own, so that it does not inherit another's memory.
#![forbid(unsafe_code)]

use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Runs this program anew with `args` and reads what it tells by [`report`].
pub fn run<T: DeserializeOwned>(args: &[String]) -> anyhow::Result<T> {
    let program = std::env::current_exe().context("cannot find this program to run it anew")?;
    let mut child = Command::new(program);
    child.args(args).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = child.output().context("cannot run this program anew")?;
    ensure!(output.status.success(), "measuring {} failed ({})", args.join(" "), output.status);
    serde_json::from_slice(&output.stdout).context("a child told something else than a result")
}

/// Tells the parent.
pub fn report(result: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(result)?);
    Ok(())
}
