"""Secrets are made once and shown to nobody else."""

import stat

from pipeline.settings import Settings
from pipeline.stack.environment import stack_environment
from pipeline.stack.secrets import password_file, secrets_of, write_private


def test_secrets_are_made_once_and_only_their_owner_may_read_them(settings):
    first, second = secrets_of(settings), secrets_of(settings)
    assert first == second
    password_file(settings, first)
    for name in ("airflow/secrets.json", "airflow/passwords.json"):
        assert stat.S_IMODE(settings.place(name).stat().st_mode) == 0o600, name


def test_two_home_folders_do_not_share_a_secret(tmp_path):
    one, other = (secrets_of(Settings.load(home=tmp_path / name)) for name in ("one", "other"))
    assert not set(one.model_dump().values()) & set(other.model_dump().values())


def test_a_given_secret_signs_the_tokens(home):
    settings = Settings.load(home=home, secret="of-the-operator-and-long-enough")
    assert stack_environment(settings)["AIRFLOW__API_AUTH__JWT_SECRET"] == "of-the-operator-and-long-enough"


def test_a_private_file_is_replaced_whole(tmp_path):
    file = tmp_path / "secret"
    file.write_text("open")
    file.chmod(0o644)
    write_private(file, "closed")
    assert file.read_text() == "closed"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]
