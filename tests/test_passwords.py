from colorization.passwords import shown, without_password


def test_an_address_is_shown_without_its_password() -> None:
    assert without_password("http://me:pass@host:1/x?y") == "http://me:***@host:1/x?y"
    assert without_password("sqlite:////a/b@c.db") == "sqlite:////a/b@c.db"


def test_a_variable_that_sounds_secret_is_hidden_and_others_lose_passwords() -> None:
    assert shown("NVIDIA_API_KEY", "abc") == "***"
    assert shown("CUDA_TOKEN", "abc") == "***"
    assert shown("TORCH_PROXY", "http://me:pass@host") == "http://me:***@host"
    assert shown("OMP_NUM_THREADS", "2") == "2"
