//! Errors for people: one line, every cause once.

/// An error with the errors behind it, each said once, in one line.
pub(crate) fn one_line(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        // A parser's message may come with an excerpt over several lines.
        let cause = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        if !text.contains(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn an_error_is_one_line_that_says_each_cause_once() {
        let error = anyhow!("refused\n  by port 1")
            .context("client: refused by port 1")
            .context("no answer");
        assert_eq!(one_line(error.as_ref()), "no answer: client: refused by port 1");
    }
}
