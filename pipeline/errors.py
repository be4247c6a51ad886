"""
The errors of the platform, in one tree. They are raised low, with facts, and translated once at the edge.

    InterestError                 exit 1   HTTP 500   worth a retry
    ├── UserMistake               exit 2   HTTP 400   the caller can correct it; never retried
    │   ├── BadSetting            exit 2   HTTP 400   a setting, a path, a port
    │   ├── BadMapping            exit 2   HTTP 400   the mapping does not fit the file
    │   ├── BadPartition          exit 2   HTTP 400   not a day, not a week, an impossible range
    │   └── NotFound              exit 2   HTTP 404   user, service, model, table or partition
    │       └── NoInterestModel   exit 2   HTTP 404   no promoted interest model to tune a filter with
    ├── BadData                   exit 3   HTTP 422   the data is at fault; never retried
    │   ├── UnreadableFile        exit 3   HTTP 422   missing, empty, truncated, wrong encoding
    │   ├── ContractViolation     exit 3   HTTP 422   columns, types, too many refused rows, a failed check
    │   ├── BeyondTolerance       exit 3   HTTP 422   a backfill's first partition differs too much from what stands
    │   └── UnbalancedCounts      exit 3   HTTP 422   rows in != published + quarantined + duplicates
    ├── LogsMissing               exit 4   HTTP 503   the collector has not delivered; worth a retry
    ├── EngineFailure             exit 5   HTTP 503   a tool broke, the data is not at fault; worth a retry
    │   └── RunFailed             exit 5   HTTP 503   a scheduled run failed; carries the end of its task's log
    └── UnsafeModel               exit 6   HTTP 500   a pickle, a changed byte, an unknown file; never retried

A message says what was found, what was expected, what is safe now and what to do.
"""


class InterestError(Exception):
    """Anything the platform raises on purpose."""

    exit_code = 1
    http_status = 500
    retry = True


class UserMistake(InterestError):
    exit_code = 2
    http_status = 400
    retry = False


class BadSetting(UserMistake):
    pass


class BadMapping(UserMistake):
    pass


class BadPartition(UserMistake):
    pass


class NotFound(UserMistake):
    http_status = 404


class NoInterestModel(NotFound):
    pass


class BadData(InterestError):
    exit_code = 3
    http_status = 422
    retry = False


class UnreadableFile(BadData):
    pass


class ContractViolation(BadData):
    pass


class BeyondTolerance(BadData):
    pass


class UnbalancedCounts(BadData):
    pass


class LogsMissing(InterestError):
    exit_code = 4
    http_status = 503


class EngineFailure(InterestError):
    exit_code = 5
    http_status = 503


class RunFailed(EngineFailure):
    def __init__(self, message: str, log: list[str]):
        super().__init__(message)
        self.log = log


class UnsafeModel(InterestError):
    exit_code = 6
    retry = False


NEVER_RETRIED = (UserMistake, BadData, UnsafeModel)
"""What a scheduler gives up on at once: another try would end the same way."""
