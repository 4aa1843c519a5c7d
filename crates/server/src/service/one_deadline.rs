//! Questions to the security module of which one goes out behind the other, for payments that are decided together.

use tapfer_hsm::HsmError;

use crate::service::ServiceError;

/// Once one of them has waited in vain for as long as there is time, those behind it are told the same without being asked: a module
/// that hangs keeps nobody waiting for the sum of all deadlines. What else ends one of them ends no other.
#[derive(Debug, Default)]
pub(super) struct OneDeadline {
    /// After so many milliseconds.
    passed: Option<u64>,
}

impl OneDeadline {
    /// Asks, if nobody has waited in vain before.
    ///
    /// # Errors
    /// As asked; [`HsmError::DeadlinePassed`].
    pub(super) fn ask<T>(
        &mut self,
        question: impl FnOnce() -> Result<T, ServiceError>,
    ) -> Result<T, ServiceError> {
        if let Some(milliseconds) = self.passed {
            return Err(HsmError::DeadlinePassed { milliseconds }.into());
        }
        let answer = question();
        if let Err(ServiceError::Hsm(HsmError::DeadlinePassed { milliseconds })) = &answer {
            self.passed = Some(*milliseconds);
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use tapfer_hsm::HsmError;

    use super::OneDeadline;
    use crate::service::ServiceError;

    #[test]
    fn behind_one_that_waited_in_vain_nothing_is_asked() {
        let (mut questions, mut asked) = (OneDeadline::default(), Vec::new());
        let hsm_says = [
            Ok("right"),
            Err(HsmError::SealedToIssuer),
            Err(HsmError::Down { cause: "its process was killed".to_owned() }),
            Ok("wrong"),
            Err(HsmError::DeadlinePassed { milliseconds: 2_000 }),
            Ok("right"),
            Err(HsmError::SealedToIssuer),
        ];
        let told = hsm_says.into_iter().enumerate().map(|(place, answer)| {
            questions.ask(|| {
                asked.push(place);
                answer.map_err(ServiceError::from)
            })
        });
        let told: Vec<_> = told.collect();
        assert_eq!(asked, [0, 1, 2, 3, 4]);
        assert!(matches!(told[..4], [Ok("right"), Err(_), Err(_), Ok("wrong")]), "{told:?}");
        for late in &told[4..] {
            let Err(ServiceError::Hsm(error)) = late else { panic!("{late:?}") };
            assert!(matches!(error, HsmError::DeadlinePassed { milliseconds: 2_000 }), "{error}");
        }
    }
}
