//! The rules of docs/architecture.md that a machine can hold: layers, unsafe code, sizes, leftovers.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules at the top of the crate: each may use those before it. `api`, `load` and `cli` are one
/// layer in the picture; among themselves they have this order.
const LAYERS: [&str; 9] = ["base", "wire", "tcp", "stack", "io", "runtime", "api", "load", "cli"];
/// The layers without an operating system, an allocation after start, or unsafe code.
const NO_STD_LAYERS: [&str; 4] = ["base", "wire", "tcp", "stack"];

const CODE_LINES_MAX: usize = 400;
const ALL_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;

/// One Rust file below `src`.
struct Source {
    /// Relative to the repository, with slashes.
    path: String,
    text: String,
    /// The text with comments and the insides of literals blanked out, line by line as before.
    code: String,
    /// Where the module `tests` begins in `code`; its length if there is none.
    tests_at: usize,
}

impl Source {
    fn new(path: String, text: String) -> Self {
        let code = blank(&text);
        let is_test = path.contains("/tests/") || path.ends_with("/tests.rs");
        let tests_at = if is_test { 0 } else { tests_at(&code) };
        Self { path, text, code, tests_at }
    }

    /// The files of the modules that this file declares for tests only.
    fn test_files(&self) -> Vec<String> {
        let directory = self.directory();
        let names = test_modules(&self.code).filter_map(|(_, module)| module.split_once(';'));
        names
            .filter(|(name, _)| name.chars().all(is_word))
            .flat_map(|(name, _)| [format!("{directory}{name}.rs"), format!("{directory}{name}/mod.rs")])
            .collect()
    }

    /// Where the modules that this file declares have their files.
    fn directory(&self) -> String {
        match self.path.strip_suffix("mod.rs") {
            Some(directory) => directory.to_owned(),
            None if self.path == "src/lib.rs" => "src/".to_owned(),
            None => self.path.trim_end_matches(".rs").to_owned() + "/",
        }
    }

    /// The code outside tests.
    fn shipped(&self) -> &str {
        &self.code[..self.tests_at]
    }

    /// The top-level module this file belongs to; `None` for lib.rs and main.rs.
    fn layer(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let first = inside.split('/').next()?;
        let name = first.strip_suffix(".rs").unwrap_or(first);
        (name != "lib" && name != "main").then_some(name)
    }

    /// How many `super::` lead from this file to the root of the crate.
    fn depth(&self) -> usize {
        let inside = self.path.trim_start_matches("src/");
        inside.split('/').filter(|part| !["mod.rs", "lib.rs", "main.rs"].contains(part)).count()
    }

    fn uses_unsafe(&self) -> bool {
        words(&self.code).any(|(_, word)| word == "unsafe")
    }

    fn forbids_unsafe(&self) -> bool {
        self.code.contains("#![forbid(unsafe_code)]")
    }

    /// Whether `other` is in a module below this file's: lints of this file reach it.
    fn is_above(&self, other: &str) -> bool {
        other.starts_with(&self.directory()) && other != self.path
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let mut sources = files(&root().join("src"), "rs");
    assert!(!sources.is_empty(), "src has Rust files");
    sources.sort();
    let mut sources: Vec<_> = sources.iter().map(|path| Source::new(relative(path), read(path))).collect();
    let test_files: BTreeSet<_> = sources.iter().flat_map(Source::test_files).collect();
    for source in sources.iter_mut().filter(|source| test_files.contains(&source.path)) {
        source.tests_at = 0;
    }
    sources
}

/// The files of the one member of the workspace that has unsafe code.
fn member_sources() -> Vec<Source> {
    let sources = files(&root().join("packetdrill/src"), "rs");
    sources.iter().map(|path| Source::new(relative(path), read(path))).collect()
}

fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    // A directory that does not exist (yet) has no files.
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.expect("the directory can be read").path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().unwrap_or_default() == extension {
            found.push(path);
        }
    }
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).expect("below the root").to_string_lossy().replace('\\', "/")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Blanks comments with spaces, and string and character literals with tildes.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let (end, filler) = literal(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
            continue;
        }
        out.extend(chars[at..end].iter().map(|&c| if c == '\n' { c } else { filler }));
        at = end;
    }
    out
}

/// Where the comment or literal that begins at `at` ends, and what blanks it; `at` itself if none begins.
fn literal(chars: &[char], at: usize) -> (usize, char) {
    let rest = &chars[at..];
    match rest {
        ['/', '/', ..] => (at + rest.iter().position(|&c| c == '\n').unwrap_or(rest.len()), ' '),
        ['/', '*', ..] => (at + block_comment_len(rest), ' '),
        ['"', ..] => (at + quoted_len(rest, '"'), '~'),
        ['r', '"' | '#', ..] if at == 0 || !is_word(chars[at - 1]) || chars[at - 1] == 'b' => {
            (at + raw_len(rest), '~')
        }
        // A quote begins a character literal, not a lifetime, if it is closed after one character.
        ['\'', '\\', ..] => (at + quoted_len(rest, '\''), '~'),
        ['\'', _, '\'', ..] => (at + 3, '~'),
        _ => (at, ' '),
    }
}

fn block_comment_len(rest: &[char]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at + 1 < rest.len() {
        match (rest[at], rest[at + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn quoted_len(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// Zero if it is a raw identifier, such as `r#type`.
fn raw_len(rest: &[char]) -> usize {
    let hashes = rest[1..].iter().take_while(|&&c| c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return 0;
    }
    let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = hashes + 2;
    let end = rest[body..].windows(close.len()).position(|window| window == close);
    end.map_or(rest.len(), |end| body + end + close.len())
}

const fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Each identifier, keyword or number with its offset.
fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.split(|c| !is_word(c))
        .filter(|word| !word.is_empty())
        .map(|word| (word.as_ptr() as usize - code.as_ptr() as usize, word))
}

/// The offset of each `#[cfg(test)] mod`, and the text that follows.
fn test_modules(code: &str) -> impl Iterator<Item = (usize, &str)> {
    const MARK: &str = "#[cfg(test)]";
    code.match_indices(MARK)
        .filter_map(|(at, mark)| Some((at, code[at + mark.len()..].trim_start().strip_prefix("mod ")?)))
}

/// Where the first test module with its text in the file begins, or the length.
fn tests_at(code: &str) -> usize {
    let inline = |module: &str| module.trim_start_matches(is_word).trim_start().starts_with('{');
    test_modules(code).find(|(_, module)| inline(module)).map_or(code.len(), |(at, _)| at)
}

fn code_lines(code: &str) -> usize {
    code.lines().filter(|line| !line.trim().is_empty()).count()
}

/// The top-level modules that paths in `code` name, `depth` modules below the root.
fn named_layers(code: &str, depth: usize) -> BTreeSet<String> {
    let squeezed: String = code.split_whitespace().collect::<Vec<_>>().join(" ").replace(":: ", "::");
    let to_root = "super::".repeat(depth);
    let starts = squeezed.match_indices("crate::").map(|(at, mark)| (at, mark.len()));
    let supers = squeezed.match_indices(&to_root).map(|(at, mark)| (at, mark.len()));
    let mut found = BTreeSet::new();
    for (at, len) in starts.chain(supers.filter(|_| depth > 0)) {
        let before = squeezed[..at].chars().next_back();
        // `$crate`, `my_crate` and a longer row of `super` are something else.
        if before.is_some_and(|c| is_word(c) || c == '$' || c == ':') {
            continue;
        }
        found.extend(first_names(&squeezed[at + len..]));
    }
    found
}

/// The first names of a path, or of each path in a group: `{base::X, wire}` gives `base` and `wire`.
fn first_names(path: &str) -> Vec<String> {
    let word = |text: &str| text.trim_start().chars().take_while(|&c| is_word(c)).collect::<String>();
    let Some(group) = path.trim_start().strip_prefix('{') else {
        return vec![word(path)];
    };
    let mut names = vec![word(group)];
    let mut depth = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(word(&group[at + 1..])),
            _ => {}
        }
    }
    names
}

/// Each function with its number of lines of code, from `fn` to the closing brace.
fn functions(code: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (at, keyword) in words(code) {
        let after = &code[at + keyword.len()..];
        if keyword != "fn" || !after.starts_with(' ') {
            continue;
        }
        let name: String = after.trim_start().chars().take_while(|&c| is_word(c)).collect();
        if let Some(len) = body_end(after)
            && !name.is_empty()
        {
            found.push((name, code_lines(&after[..len])));
        }
    }
    found
}

/// Where the body that follows a signature ends; `None` for a signature alone.
fn body_end(signature: &str) -> Option<usize> {
    let (mut braces, mut others) = (0, 0);
    for (at, c) in signature.char_indices() {
        match c {
            '(' | '[' => others += 1,
            ')' | ']' => others -= 1,
            ';' if braces == 0 && others == 0 => return None,
            '{' => braces += 1,
            '}' => {
                braces -= 1;
                if braces == 0 && others == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

fn assert_none(violations: &[String], rule: &str) {
    assert!(violations.is_empty(), "{rule}:\n  {}", violations.join("\n  "));
}

#[test]
fn a_module_uses_only_lower_layers() {
    let rank = |name: &str| LAYERS.iter().position(|layer| *layer == name);
    let mut violations = Vec::new();
    for source in sources() {
        let Some(layer) = source.layer() else { continue };
        let Some(own) = rank(layer) else {
            violations.push(format!("{}: {layer} is not in the table of layers", source.path));
            continue;
        };
        for named in named_layers(source.shipped(), source.depth()) {
            if rank(&named).is_some_and(|other| other > own) {
                violations.push(format!("{} uses {named}", source.path));
            }
        }
    }
    assert_none(&violations, "a module may use only the layers below it");
}

#[test]
fn the_engine_needs_no_std() {
    let mut violations = Vec::new();
    for source in sources().iter().filter(|s| s.layer().is_some_and(|l| NO_STD_LAYERS.contains(&l))) {
        if words(source.shipped()).any(|(_, word)| word == "std") {
            violations.push(source.path.clone());
        }
    }
    assert_none(&violations, "base, wire, tcp and stack use core and alloc only, outside tests");
}

#[test]
fn unsafe_code_is_where_the_list_says_and_forbidden_elsewhere() {
    let sources = sources();
    let used: BTreeSet<&str> = sources.iter().filter(|s| s.uses_unsafe()).map(|s| s.path.as_str()).collect();
    let member = member_sources();
    let in_member = member.iter().filter(|s| s.uses_unsafe()).map(|s| s.path.as_str());
    let all: BTreeSet<&str> = used.iter().copied().chain(in_member).collect();
    if let Ok(list) = fs::read_to_string(root().join("docs/unsafe.md")) {
        let is_path = |c: char| is_word(c) || "/.-".contains(c);
        let listed: BTreeSet<&str> = list
            .split(|c| !is_path(c))
            .filter(|word| word.contains("src/") && word.ends_with(".rs"))
            .collect();
        assert_eq!(all, listed, "files with unsafe code, and files listed in docs/unsafe.md");
    }
    let violations: Vec<_> = sources
        .iter()
        .chain(&member)
        .filter(|s| {
            s.path != "packetdrill/src/lib.rs"
                && !s.forbids_unsafe()
                && !s.uses_unsafe()
                && !used.iter().any(|other| s.is_above(other))
        })
        .map(|s| s.path.clone())
        .collect();
    assert_none(&violations, "a file without unsafe code says #![forbid(unsafe_code)]");
}

#[test]
fn files_and_functions_keep_to_the_ceilings() {
    let mut violations = Vec::new();
    for source in sources().into_iter().chain(member_sources()) {
        for (what, lines, max) in [
            ("outside tests", code_lines(source.shipped()), CODE_LINES_MAX),
            ("with tests", code_lines(&source.code), ALL_LINES_MAX),
        ] {
            if lines > max {
                violations.push(format!("{}: {lines} lines of code {what}, {max} allowed", source.path));
            }
        }
        for (name, lines) in functions(&source.code).into_iter().filter(|(_, l)| *l > FUNCTION_LINES_MAX) {
            violations.push(format!("{}: {name} has {lines} lines", source.path));
        }
    }
    assert_none(&violations, "files and functions are short enough to be read");
}

#[test]
fn every_file_opens_with_a_sentence_about_itself() {
    let mut violations = Vec::new();
    for path in ["src", "tests"].iter().flat_map(|directory| files(&root().join(directory), "rs")) {
        let text = read(&path);
        let first = text.lines().next().unwrap_or_default();
        if !first.starts_with("//! ") || first.len() < 12 {
            violations.push(relative(&path));
        }
    }
    assert_none(&violations, "a file's first line says what is inside, after //!");
}

#[test]
fn nothing_is_left_for_later() {
    /// Spelt apart so that this file does not find itself.
    const LEFTOVERS: [&str; 6] = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("unimplemented", "!("),
        concat!("todo", "!("),
        concat!("allow(dead", "_code"),
    ];
    let mut violations = Vec::new();
    let trees = [("src", "rs"), ("tests", "rs"), ("bpf", "c"), ("bpf", "h"), ("docs", "md")];
    for path in trees.iter().flat_map(|(tree, extension)| files(&root().join(tree), extension)) {
        for (number, line) in read(&path).lines().enumerate() {
            if LEFTOVERS.iter().any(|leftover| line.contains(leftover)) {
                violations.push(format!("{}:{}: {}", relative(&path), number + 1, line.trim()));
            }
        }
    }
    assert_none(&violations, "what is not done is an issue, not a comment");
}

#[test]
fn comments_and_literals_are_not_code() {
    for (text, code, why) in [
        ("a // unsafe\nb", "a          \nb", "a line comment"),
        ("a /* /* x */ y */ b", "a                 b", "nested comments"),
        (r#"f("a \" {")"#, "f(~~~~~~~~)", "an escaped quote"),
        ("r#\"\"{\"# x", "~~~~~~~ x", "a raw string"),
        ("r#type", "r#type", "a raw identifier"),
        ("'{' 'a", "~~~ 'a", "a character and a lifetime"),
        (r"'\'' {", "~~~~ {", "an escaped character"),
    ] {
        assert_eq!(blank(text), code, "{why}");
    }
}

#[test]
fn a_path_names_the_layer_it_begins_with() {
    for (code, depth, layers, why) in [
        ("use crate::wire::Ipv4;", 2, &["wire"][..], "a simple path"),
        ("use crate::{base::{A, B},\n    tcp};", 2, &["base", "tcp"], "a group"),
        ("let x = crate::stack::new();", 2, &["stack"], "a path in an expression"),
        ("use super::super::io::X;", 2, &["io"], "supers up to the root"),
        ("use super::io::X;", 2, &[], "a sibling"),
        ("use super::io::X;", 1, &["io"], "a sibling of a top-level module"),
        ("use my_crate::io::X; $crate::io", 2, &[], "other crates"),
    ] {
        let found = named_layers(code, depth);
        assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), layers, "{why}");
    }
}

#[test]
fn functions_are_measured_from_fn_to_brace() {
    let code = blank(concat!(
        "fn one() -> [u8; 2] { [0; 2] }\n",
        "trait T { fn none(&self); }\n",
        "fn four(f: fn(u8) -> u8) {\n    // {\n    if true {\n    }\n}\n",
    ));
    let measured = functions(&code);
    assert_eq!(measured, [("one".to_owned(), 1), ("four".to_owned(), 4)]);
}

#[test]
fn tests_begin_at_the_attribute_before_their_module() {
    let source = |text: &str| Source::new("src/tcp/x.rs".to_owned(), text.to_owned());
    let with_tests =
        source("#[cfg(test)]\nmod slow;\nfn a() {}\n#[cfg(test)]\nmod tests { use std::vec; }\n");
    assert_eq!(code_lines(with_tests.shipped()), 3);
    assert!(!with_tests.shipped().contains("std"));
    assert_eq!(with_tests.test_files(), ["src/tcp/x/slow.rs", "src/tcp/x/slow/mod.rs"]);
    assert_eq!((with_tests.layer(), with_tests.depth()), (Some("tcp"), 2));
    let none = source("fn a() {}\n");
    assert_eq!(none.shipped(), none.text);
}
