import pytest

from pipelines.runtime.redact import bare, redact, redact_values

PASSWORD = "pä5s/w%rd"


@pytest.fixture
def secrets(monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ada:hunter22@tracking.example:5000/mlflow?token=t0k3n-abc")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no answer from https://ada:hunter22@tracking.example/x", "no answer from https://***@tracking.example/x"),
        ("postgresql+psycopg2://u:p@ss@db:5432/mlflow is away", "postgresql+psycopg2://***@db:5432/mlflow is away"),
        ("http://only-a-token@host", "http://***@host"),
        ("GET /api?api_key=12345&x=1", "GET /api?api_key=***&x=1"),
        (f"login failed for {PASSWORD}", "login failed for ***"),
        ("header t0k3n-abc refused", "header *** refused"),
        ("https:/user:sesame@host/x: not found", "https:/***@host/x: not found"),
        ("models:/gee-digits@champion: not there", "models:/gee-digits@champion: not there"),
        ("hunter22", "***"),
        ("mail ada@example.org about loss 0.5", "mail ada@example.org about loss 0.5"),
        ("sqlite:////tmp/mlflow.db", "sqlite:////tmp/mlflow.db"),
    ],
)
def test_no_secret_is_shown_and_nothing_else_is_hidden(secrets, text, shown):
    assert redact(text) == shown


def test_the_secrets_of_prefect_and_dask_are_hidden(monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "https://ada:hunter22@prefect.example/api")
    monkeypatch.setenv("PREFECT_API_KEY", "pnu_12345")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:open sesame")
    assert redact("hunter22, pnu_12345, admin:open sesame") == "***, ***, ***"
    monkeypatch.setenv("GEE_DASK", "tls://ada:sesame@127.0.0.1:8786")
    assert (
        redact("tls://ada:sesame@127.0.0.1, invalid address 'ada:sesame@'") == "tls://***@127.0.0.1, invalid address 'ada:***@'"
    )

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://a:1@host")  # too short: it would take numbers apart
    assert redact("0.111 at https://a:1@host") == "0.111 at https://***@host"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ada:hunter22@host")
    nested = {"a": ["hunter22", {"hunter22": 1.5}], "b": None, "c": True}
    assert redact_values(nested) == {"a": ["***", {"***": 1.5}], "b": None, "c": True}


@pytest.mark.parametrize("password", ["open/sesame", "open#sesame", "open?sesame", "open%40sesame", "op:en@sesame"])
@pytest.mark.parametrize("store", ["https://ada:{}@host", "postgresql+psycopg2://ada:{}@db:5432/x?ssl=on", "://a:{}@[host"])
def test_no_password_is_shown_also_of_a_malformed_address(monkeypatch, password, store):
    uri = store.format(password)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    shown = [redact(f"{uri}: invalid"), redact(f"login with {password}"), redact(password.replace("%40", "@")), bare(uri)]
    assert not [text for text in shown if "sesame" in text]


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("https://ada:hunter22@host:5000/mlflow/?token=abc#x", "https://host:5000/mlflow"),
        ("https://host:5000/mlflow", "https://host:5000/mlflow"),
        ("sqlite:////tmp/mlflow.db?timeout=5", "sqlite:////tmp/mlflow.db"),
        ("databricks", "databricks"),
    ],
)
def test_an_address_has_neither_user_nor_token(uri, address):
    assert bare(uri) == address
