import pytest

from colorization.passwords import shown, without_password, without_secrets


def test_an_address_is_shown_without_its_password() -> None:
    assert without_password("http://me:pass@host:1/x?y") == "http://me:***@host:1/x?y"
    assert without_password("sqlite:////a/b@c.db") == "sqlite:////a/b@c.db"
    assert without_password("https://ghp_1234@host/x, http://h/a@b") == (
        "https://***@host/x, http://h/a@b"
    )
    assert without_password("['http://a', 'b@c']") == "['http://a', 'b@c']"


def test_a_variable_that_sounds_secret_is_hidden_and_others_lose_passwords() -> None:
    assert shown("NVIDIA_API_KEY", "abc") == "***"
    assert shown("CUDA_TOKEN", "abc") == "***"
    assert shown("TORCH_PROXY", "http://me:pass@host") == "http://me:***@host"
    assert shown("OMP_NUM_THREADS", "2") == "2"


@pytest.mark.parametrize(
    ("file", "line", "masked"),
    [
        ("a.py", 'API_KEY = "abc"', 'API_KEY = "***"'),
        ("a.py", "api_token: str | None = 'a\\'bc'", "api_token: str | None = '***'"),
        ("a.py", 'os.environ["HF_TOKEN"] = "abc"', 'os.environ["HF_TOKEN"] = "***"'),
        ("a.py", '{"password": "abc", "user": "me"}', '{"password": "***", "user": "me"}'),
        ("a.py", "login(secret=f'abc', user='me')", "login(secret=f'***', user='me')"),
        ("a.py", 'PASSWORD = """abc', 'PASSWORD = """***'),
        ("a.py", "sorted(found, key=len)", "sorted(found, key=len)"),
        ("a.py", 'if key == "test":', 'if key == "test":'),
        ("a.py", 'server = "https://abc@host"', 'server = "https://***@host"'),
        ("a.yaml", "  password: abc def", "  password: ***"),
        ("a.json", '"api_key": "abc"', '"api_key": "***"'),
        (".env", "export AWS_SECRET_ACCESS_KEY=abc+/=", "export AWS_SECRET_ACCESS_KEY=***"),
        (".env", "OMP_NUM_THREADS=2", "OMP_NUM_THREADS=2"),
    ],
)
def test_a_diff_is_shown_without_what_is_assigned_to_names_that_sound_secret(
    file: str, line: str, masked: str
) -> None:
    head = "diff --git a/b.txt b/b.txt\n+c = 1\n"
    head += f"diff --git a/{file} b/{file}\n--- a/{file}\n+++ b/{file}\n@@ -1 +1 @@\n"
    for sign in "+- ":
        assert without_secrets(f"{head}{sign}{line}\n+d = 1\n") == f"{head}{sign}{masked}\n+d = 1\n"
