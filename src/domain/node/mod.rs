//! A Node, and which Orders it may serve.

pub mod eligibility;
pub mod outage;
pub mod record;
pub mod selector;
pub mod toleration;
