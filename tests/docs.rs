//! The documents keep up with the code: every counter is explained, and every link leads somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ringroad::base::{Counter, DropReason};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The Markdown files of the repository: those at its root, and all below `docs`.
fn documents() -> Vec<PathBuf> {
    let mut found = entries(root());
    let mut directories = vec![root().join("docs")];
    while let Some(directory) = directories.pop() {
        let (below, files): (Vec<_>, Vec<_>) =
            entries(&directory).into_iter().partition(|path| path.is_dir());
        directories.extend(below);
        found.extend(files);
    }
    found.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    assert!(found.len() > 10, "only {found:?}");
    found
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    entries.map(|entry| entry.expect("the directory can be read").path()).collect()
}

/// What stands in the first cell of the rows of the tables below `heading`, each word between backquotes.
fn first_cells(text: &str, heading: &str) -> BTreeSet<String> {
    let section = text.lines().skip_while(|line| line.trim() != heading).skip(1);
    let rows = section.take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// The targets of the links of `text`, code blocks left out.
fn links(text: &str) -> Vec<String> {
    let prose: String = text.split("```").step_by(2).collect();
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.map(str::to_owned).collect()
}

#[test]
fn operations_explains_every_counter_and_no_other() {
    let text = read(&root().join("docs/operations.md"));
    let counters: BTreeSet<String> = Counter::ALL.iter().map(|counter| counter.label().to_owned()).collect();
    assert_eq!(first_cells(&text, "## Counters"), counters);
}

#[test]
fn operations_explains_every_drop_reason_and_no_other() {
    let text = read(&root().join("docs/operations.md"));
    let reasons: BTreeSet<String> = DropReason::ALL.iter().map(|reason| reason.label().to_owned()).collect();
    assert_eq!(first_cells(&text, "## Drop reasons"), reasons);
}

#[test]
fn operations_explains_every_verdict_of_the_steering_program() {
    let header = read(&root().join("bpf/steer.h"));
    let names = header.lines().filter_map(|line| line.trim().strip_suffix(','));
    let verdicts: BTreeSet<String> = names
        .filter(|name| name.starts_with("STEER_") && *name != "STEER_VERDICTS")
        .map(str::to_lowercase)
        .collect();
    assert!(!verdicts.is_empty(), "the header has verdicts");
    let text = read(&root().join("docs/operations.md"));
    assert_eq!(first_cells(&text, "## Steering verdicts"), verdicts);
}

#[cfg(feature = "xdp")]
#[test]
fn operations_explains_every_figure_of_a_queue() {
    let figures = ringroad::io::xdp::QueueStats::default().figures();
    let names: BTreeSet<String> = figures.iter().map(|(name, _)| (*name).to_owned()).collect();
    let text = read(&root().join("docs/operations.md"));
    assert_eq!(first_cells(&text, "## Queue statistics"), names);
}

#[test]
fn every_relative_link_leads_to_a_file() {
    let mut broken = Vec::new();
    let mut seen = 0;
    for document in documents() {
        let directory = document.parent().expect("a file is in a directory");
        for link in links(&read(&document)) {
            let path = link.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            seen += 1;
            if !directory.join(path).exists() {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n  {}", broken.join("\n  "));
    assert!(seen > 10, "links are found at all");
}
