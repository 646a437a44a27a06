//! In the place of `jinja/` where the feature `chat` is off: templates are refused, with the reason.

use super::{Date, Fault, Message, Tokens};

/// There is none.
#[derive(Debug)]
pub(super) enum Template {}

impl Template {
    pub fn new(_: &str, _: Tokens, _: Date) -> Result<Self, Fault> {
        Err("this program was built without the feature `chat`, which renders it".into())
    }

    pub fn render(&self, _: &[Message], _: bool) -> Result<String, Fault> {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{ChatTemplate, Date, Tokens};

    #[test]
    fn a_template_is_refused_by_the_name_of_the_feature() {
        let error = ChatTemplate::new(Path::new("model"), "{{ messages }}", Tokens::default(), Date::OF_RECORDS).unwrap_err();
        assert_eq!(
            error.to_string(),
            "model: chat template: this program was built without the feature `chat`, which renders it"
        );
    }
}
