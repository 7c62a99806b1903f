//! What the stack asks of the operating system while it runs: links, neighbours, namespaces, offloads.
//!
//! | file | what |
//! | --- | --- |
//! | `netlink` | links, addresses, routes and neighbours over rtnetlink |
//! | `netns` | network namespaces: make, enter, remove |
//! | `ethtool` | the one offload that an AF_XDP peer must be able to switch off |

pub mod ethtool;
pub mod netlink;
pub mod netns;

/// What to add to an error that root would not have seen.
fn root_hint(error: &std::io::Error) -> &'static str {
    if error.kind() == std::io::ErrorKind::PermissionDenied { "; run this as root" } else { "" }
}
