//! The `ringroad` command: everything is in the library's `cli` module.
#![forbid(unsafe_code)]

#[global_allocator]
static ALLOCATOR: ringroad::io::HugePages = ringroad::io::HugePages;

fn main() -> std::process::ExitCode {
    ringroad::cli::main()
}
