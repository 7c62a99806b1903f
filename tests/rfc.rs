//! Which requirement of which RFC is where in the code, and what shows it: docs/rfc.md, made from citations.
//!
//! A citation is `RFC 9293 §3.8.4`, or an id such as `MUST-24` of docs/rfc/rfc9293-requirements.csv; where an id
//! has several rows, `: topic` after it says which. After a change: `cargo test --test rfc -- --ignored`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// RFCs listed by section: those that say what TCP does.
const LISTED: [(u32, &str); 24] = [
    (1122, "what RFC 9293 has left of it"),
    (1337, "TIME-WAIT assassination"),
    (2018, "selective acknowledgment"),
    (2883, "duplicate SACK"),
    (3168, "explicit congestion notification"),
    (3465, "appropriate byte counting"),
    (4821, "path MTU by probing"),
    (5681, "congestion control"),
    (5682, "F-RTO"),
    (5961, "blind attacks"),
    (6056, "port selection"),
    (6093, "urgent data"),
    (6191, "TIME-WAIT and timestamps"),
    (6298, "retransmission timer"),
    (6528, "initial sequence numbers"),
    (6582, "NewReno"),
    (6675, "recovery by SACK"),
    (6691, "options and MSS"),
    (6937, "proportional rate reduction"),
    (7323, "window scale, timestamps, PAWS"),
    (7765, "RTO restart"),
    (8985, "RACK-TLP"),
    (9406, "HyStart++"),
    (9438, "CUBIC"),
];

/// What no test can show, each with the reason; the record that decided it is in docs/adr.
const WITHOUT_TEST: [(&str, &str); 4] = [
    ("MUST-13", "the default of 2 MSL is a setting"),
    ("MUST-51", "source routes"),
    ("MUST-52", "source routes"),
    ("MUST-53", "source routes"),
];

const MORE_THAN: usize = 4;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn files(directory: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display())) {
        let path = entry.expect("the directory can be read").path();
        if path.is_dir() {
            found.extend(files(&path, extensions));
        } else if path.extension().is_some_and(|ours| extensions.iter().any(|theirs| ours == *theirs)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A requirement of RFC 9293.
#[derive(Debug)]
struct Requirement {
    id: String,
    level: String,
    topic: String,
    section: String,
}

/// The rows of the table of ids; a field with commas stands between quotes.
fn requirements() -> Vec<Requirement> {
    let text = read(&root().join("docs/rfc/rfc9293-requirements.csv"));
    let rows: Vec<_> = text.lines().skip(1).map(fields).collect();
    let row = |row: &[String]| match row {
        [id, level, _, topic, section] => Requirement {
            id: id.clone(),
            level: level.clone(),
            topic: topic.clone(),
            section: section.clone(),
        },
        _ => panic!("{row:?} has not five fields"),
    };
    rows.iter().map(|fields| row(fields)).collect()
}

fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut quoted) = (vec![String::new()], false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            _ => fields.last_mut().expect("there is one").push(c),
        }
    }
    fields
}

/// What a line says of RFCs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Cited {
    /// Number and section; the section may be empty.
    sections: Vec<(u32, String)>,
    ids: Vec<String>,
    topic: Option<String>,
}

fn cited(line: &str) -> Cited {
    let mut found = Cited::default();
    for (at, _) in line.match_indices("RFC ") {
        let rest = &line[at + 4..];
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let Ok(number) = rest[..digits].parse() else { continue };
        // RFC 6298 numbers its rules by section: (5.7).
        let rest = rest[digits..].trim_start_matches([' ', '§', '(']);
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let section = rest[..end].trim_end_matches('.');
        found.sections.push((number, section.to_owned()));
    }
    let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    let is_id = |word: &&str| {
        let number = ["MUST-", "SHLD-", "MAY-", "REC-"].iter().find_map(|level| word.strip_prefix(level));
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    };
    found.ids = words.filter(is_id).map(str::to_owned).collect();
    if let Some(last) = found.ids.last() {
        let after = line.rsplit_once(last.as_str()).map_or("", |(_, after)| after);
        found.topic = after.strip_prefix(": ").map(|topic| topic.trim().to_owned());
    }
    found
}

/// A citation, and where it is.
#[derive(Debug)]
struct Citation {
    cited: Cited,
    /// The file below src or tests, without its extension; of a test, with the name of the function.
    place: String,
    is_test: bool,
}

fn citations() -> Vec<Citation> {
    let mut found = Vec::new();
    for directory in ["src", "tests", "bpf"] {
        let base = root().join(directory);
        for path in files(&base, &["rs", "pkt", "c", "h"]) {
            if path.ends_with("tests/rfc.rs") {
                continue;
            }
            let name = path.strip_prefix(&base).expect("below it").with_extension("");
            let text = read(&path);
            found.extend(citations_in(&text, &name.to_string_lossy(), directory == "tests"));
        }
    }
    found
}

fn citations_in(text: &str, name: &str, in_tests: bool) -> Vec<Citation> {
    let lines: Vec<_> = text.lines().collect();
    let tests_from =
        lines.iter().position(|line| line.trim() == "#[cfg(test)]" || line.starts_with("mod tests {"));
    let is_test_file = in_tests || name.contains("/tests/") || name.ends_with("/tests");
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let cited = cited(line);
        if cited == Cited::default() {
            continue;
        }
        let is_test = is_test_file || tests_from.is_some_and(|from| at > from);
        let place = match function_at(&lines, at).filter(|_| is_test) {
            Some(function) => format!("{name}::{function}"),
            None => name.to_owned(),
        };
        found.push(Citation { cited, place, is_test });
    }
    found
}

/// The function that a line documents or is part of.
fn function_at<'a>(lines: &[&'a str], at: usize) -> Option<&'a str> {
    let name = |line: &&'a str| {
        let (before, rest) = line.split_once("fn ")?;
        let is_one = before.split_whitespace().all(|word| word.starts_with("pub") || word == "const");
        rest.split(['(', '<']).next().filter(|_| is_one)
    };
    if lines[at].trim_start().starts_with("///") {
        return lines[at..].iter().find_map(name);
    }
    lines[..=at].iter().rev().find_map(name)
}

/// Numbers of the decision records that name each id.
fn decisions() -> BTreeMap<String, BTreeSet<u32>> {
    let mut found: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    for path in files(&root().join("docs/adr"), &["md"]) {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        let number = name.split('-').next().and_then(|number| number.parse().ok()).expect("a number");
        for id in read(&path).lines().flat_map(|line| cited(line).ids) {
            found.entry(id).or_default().insert(number);
        }
    }
    found
}

/// One row of the table of RFC 9293.
struct Row {
    requirement: Requirement,
    code: BTreeSet<String>,
    tests: BTreeSet<String>,
    decisions: BTreeSet<u32>,
}

impl Row {
    fn status(&self) -> String {
        let decisions: Vec<_> = self.decisions.iter().map(|number| format!("ADR {number}")).collect();
        match (self.tests.is_empty(), decisions.is_empty()) {
            (false, true) => "tested".to_owned(),
            (false, false) => format!("tested; {}", decisions.join(", ")),
            (true, false) => decisions.join(", "),
            (true, true) if self.code.is_empty() => "not done".to_owned(),
            (true, true) => "no test".to_owned(),
        }
    }

    fn is_must(&self) -> bool {
        self.requirement.level.starts_with("MUST")
    }
}

fn rows() -> Vec<Row> {
    let (citations, mut decisions) = (citations(), decisions());
    let requirements = requirements();
    let count = |id: &str| requirements.iter().filter(|requirement| requirement.id == id).count();
    let ambiguous: BTreeSet<_> =
        requirements.iter().filter(|r| count(&r.id) > 1).map(|r| r.id.clone()).collect();
    let mut rows = Vec::new();
    for requirement in requirements {
        let names = |citation: &&Citation| citation.cited.ids.contains(&requirement.id);
        let in_section = |citation: &&Citation| {
            citation
                .cited
                .sections
                .iter()
                .any(|(rfc, section)| *rfc == 9293 && *section == requirement.section)
        };
        let means = |citation: &&Citation| {
            let topic = citation.cited.topic.as_deref();
            let bare = !ambiguous.contains(&requirement.id);
            names(citation) && (bare || topic == Some(requirement.topic.as_str()))
        };
        let places =
            |which: Vec<&Citation>| which.into_iter().map(|c| c.place.clone()).collect::<BTreeSet<_>>();
        let shipped = || citations.iter().filter(|citation| !citation.is_test);
        let mut code = places(shipped().filter(names).collect());
        if code.is_empty() {
            code = places(shipped().filter(in_section).collect());
        }
        let tests = places(citations.iter().filter(|citation| citation.is_test).filter(means).collect());
        let decisions = decisions.get_mut(&requirement.id).cloned().unwrap_or_default();
        rows.push(Row { requirement, code, tests, decisions });
    }
    rows.sort_by_key(|row| section_key(&row.requirement.section));
    rows
}

/// Sections in the order of the document.
fn section_key(section: &str) -> Vec<u32> {
    section.split('.').map(|part| part.parse().unwrap_or(u32::MAX)).collect()
}

fn cell(places: &BTreeSet<String>) -> String {
    let shown: Vec<_> = places.iter().take(MORE_THAN).map(|place| format!("`{place}`")).collect();
    let more = places.len().saturating_sub(MORE_THAN);
    match more {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn document() -> String {
    let rows = rows();
    let mut text = String::from(
        "# What the RFCs ask for\n\n\
        Made from the citations in code and tests by `cargo test --test rfc -- --ignored`; not to be edited. A test fails\n\
        when it is out of date, and when a MUST has neither a test nor a place in the short list of those that cannot have one.\n\
        Names with `::` are test functions, the others under *shown by* are [packet scripts](packet-scripts.md).\n\n",
    );
    for (level, is) in [("MUST", "MUST and MUST NOT"), ("SHOULD", "SHOULD and SHOULD NOT"), ("MAY", "MAY")] {
        let of: Vec<_> = rows.iter().filter(|row| row.requirement.level.starts_with(level)).collect();
        let tested = of.iter().filter(|row| !row.tests.is_empty()).count();
        let decided = of.iter().filter(|row| row.tests.is_empty() && !row.decisions.is_empty()).count();
        let left = of.len() - tested - decided;
        let _ = writeln!(
            text,
            "- {is}: {} of RFC 9293; {tested} tested, {decided} deviations or settings with a decision record, {left} neither",
            of.len()
        );
    }
    text.push_str("\n## RFC 9293\n\n");
    text.push_str("| id | level | topic | section | code | shown by | status |\n");
    text.push_str("| --- | --- | --- | --- | --- | --- | --- |\n");
    for row in &rows {
        let Requirement { id, level, topic, section } = &row.requirement;
        let (code, tests, status) = (cell(&row.code), cell(&row.tests), row.status());
        let _ = writeln!(text, "| {id} | {level} | {topic} | {section} | {code} | {tests} | {status} |");
    }
    text.push_str("\n## Other RFCs, by section\n\n");
    text.push_str("| RFC | section | code | shown by |\n| --- | --- | --- | --- |\n");
    for ((rfc, section), (code, tests)) in by_section() {
        let about = LISTED.iter().find(|(number, _)| *number == rfc).map_or("", |(_, about)| about);
        let section = if section.is_empty() { about.to_owned() } else { format!("§{section}") };
        let _ = writeln!(text, "| {rfc} | {section} | {} | {} |", cell(&code), cell(&tests));
    }
    let silent = LISTED.iter().filter(|(rfc, _)| !by_section().keys().any(|(number, _)| number == rfc));
    let silent: Vec<_> = silent.map(|(rfc, about)| format!("RFC {rfc} ({about})")).collect();
    if !silent.is_empty() {
        let _ = writeln!(text, "\nNothing of {} is there.", silent.join(", "));
    }
    text
}

type Places = (BTreeSet<String>, BTreeSet<String>);

/// Code and tests for each section of the RFCs listed.
fn by_section() -> BTreeMap<(u32, String), Places> {
    let mut found: BTreeMap<(u32, String), Places> = BTreeMap::new();
    for citation in citations() {
        for (rfc, section) in &citation.cited.sections {
            if LISTED.iter().any(|(number, _)| number == rfc) {
                let (code, tests) = found.entry((*rfc, section.clone())).or_default();
                let places = if citation.is_test { tests } else { code };
                places.insert(citation.place.clone());
            }
        }
    }
    found
}

#[test]
fn every_must_is_shown_by_a_test_or_cannot_be() {
    let missing: Vec<_> = rows()
        .iter()
        .filter(|row| row.is_must() && row.tests.is_empty())
        .filter(|row| {
            !WITHOUT_TEST.iter().any(|(id, _)| *id == row.requirement.id) || row.decisions.is_empty()
        })
        .map(|row| format!("{} {}", row.requirement.id, row.requirement.topic))
        .collect();
    assert!(missing.is_empty(), "no test cites these:\n{}", missing.join("\n"));
}

#[test]
fn every_should_is_shown_by_a_test_or_has_a_decision_record() {
    let is_missing = |row: &&Row| row.tests.is_empty() && row.decisions.is_empty();
    let missing: Vec<_> = rows()
        .iter()
        .filter(|row| row.requirement.level.starts_with("SHOULD"))
        .filter(is_missing)
        .map(|row| format!("{} {}", row.requirement.id, row.requirement.topic))
        .collect();
    assert!(missing.is_empty(), "neither a test nor a decision record names these:\n{}", missing.join("\n"));
}

#[test]
fn every_must_has_its_place_in_the_code() {
    let missing: Vec<_> = rows()
        .iter()
        .filter(|row| row.is_must() && row.code.is_empty())
        .filter(|row| !WITHOUT_TEST.iter().any(|(id, _)| *id == row.requirement.id))
        .map(|row| format!("{} {} (§{})", row.requirement.id, row.requirement.topic, row.requirement.section))
        .collect();
    assert!(missing.is_empty(), "nothing in src cites these:\n{}", missing.join("\n"));
}

#[test]
fn every_id_that_is_cited_exists() {
    let ids: BTreeSet<_> = requirements().into_iter().map(|requirement| requirement.id).collect();
    for citation in citations() {
        for id in &citation.cited.ids {
            assert!(ids.contains(id), "{} cites {id}, which RFC 9293 has not", citation.place);
        }
    }
}

#[test]
fn the_document_is_up_to_date() {
    let is = read(&root().join("docs/rfc.md"));
    assert!(is == document(), "docs/rfc.md is out of date: cargo test --test rfc -- --ignored");
}

#[test]
#[ignore = "writes docs/rfc.md"]
fn write_the_document() {
    fs::write(root().join("docs/rfc.md"), document()).expect("docs can be written");
}

#[test]
fn citations_are_found_wherever_they_stand() {
    let sections = |line| cited(line).sections;
    assert_eq!(
        sections("// RFC 7323 §5.3 R1, and (RFC 6298 (5.7))."),
        [(7323, "5.3".to_owned()), (6298, "5.7".to_owned())]
    );
    assert_eq!(
        sections("as RFC 6191 says. RFC 9293 §3.9.1.8."),
        [(6191, String::new()), (9293, "3.9.1.8".to_owned())]
    );
    let line = cited("# RFC 9293 §3.8.3 MUST-20 SHLD-9: Close connection");
    assert_eq!(line.ids, ["MUST-20", "SHLD-9"]);
    assert_eq!(line.topic.as_deref(), Some("Close connection"));
    assert_eq!(cited("MUSTER-2 MUST- MAY-x").ids, Vec::<String>::new());

    let text = "//! x\nfn code() {}\n// MUST-2\n#[cfg(test)]\nmod tests {\n    /// MUST-3\n    fn shows() {\n        // MUST-4\n";
    let places: Vec<_> =
        citations_in(text, "tcp/x", false).into_iter().map(|c| (c.place, c.is_test)).collect();
    let test = "tcp/x::shows".to_owned();
    assert_eq!(places, [("tcp/x".to_owned(), false), (test.clone(), true), (test, true)]);
    assert_eq!(fields("a,\"b, c\",d"), ["a", "b, c", "d"]);
}
