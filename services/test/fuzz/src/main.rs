//! `bongsu-fuzz`: runs the targets for a time; an input that one does not survive is written down.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bongsu_fuzz::{run, targets};
use clap::Parser;

/// Fuzzes what reads providers' answers and reports.
#[derive(Debug, Parser)]
struct Arguments {
    /// Which; all when none is named.
    targets: Vec<String>,
    /// Seconds for each.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Begins another sequence of inputs; by default one of the clock's.
    #[arg(long)]
    seed: Option<u64>,
    /// Where an input is written that was not survived.
    #[arg(long, default_value = "target/fuzz")]
    out: PathBuf,
    /// Only write what inputs are made of into this folder, a file each.
    #[arg(long)]
    write_seeds: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let clock = bongsu_runtime::Clock::system();
    let seed = arguments.seed.unwrap_or(clock.now_millis().unsigned_abs());
    let known = targets::all();
    for name in &arguments.targets {
        if !known.iter().any(|target| target.name == name) {
            let names: Vec<_> = known.iter().map(|target| target.name).collect();
            bail!("`{name}` is no target; there are {}", names.join(", "));
        }
    }
    let wanted = |name: &str| {
        arguments.targets.is_empty() || arguments.targets.iter().any(|wanted| wanted == name)
    };
    if let Some(folder) = &arguments.write_seeds {
        for target in known.iter().filter(|target| wanted(target.name)) {
            for (number, seed) in target.seeds.iter().enumerate() {
                let path = folder.join(format!("{}-{number}", target.name));
                std::fs::write(path, seed).context("writing a seed")?;
            }
        }
        return Ok(());
    }
    let time = i64::try_from(Duration::from_secs(arguments.seconds).as_millis())?;
    let mut failed = false;
    for target in known.iter().filter(|target| wanted(target.name)) {
        let until = clock.now_millis() + time;
        match run(target, seed, |_| clock.now_millis() >= until) {
            Ok(inputs) => say(&format!("{:<14} survived {inputs} inputs", target.name)),
            Err(found) => {
                failed = true;
                std::fs::create_dir_all(&arguments.out).context("making the folder")?;
                let path = arguments
                    .out
                    .join(format!("{}-{seed}-{}", found.target, found.number));
                std::fs::write(&path, &found.input).context("writing the input")?;
                say(&format!(
                    "{:<14} FAILED at input {} of seed {seed}: {}",
                    target.name,
                    found.number,
                    path.display()
                ));
            }
        }
    }
    if failed {
        bail!("a target did not survive its inputs");
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a command line tool")]
fn say(line: &str) {
    println!("{line}");
}
