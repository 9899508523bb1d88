"""The settings for the next start, in a real browser."""

from __future__ import annotations

from playwright.sync_api import expect

from app.settings.model import Settings
from tests.app.accessibility import accessible
from tests.app.browsing import PHONE, Arrive, Visitor


def test_dark_mode_stands(arrive: Arrive, settings: Settings) -> None:
    visitor = arrive(query="?__theme=dark")
    assert visitor.fits()
    visitor.keep("dark")
    settings_are_saved(visitor, settings)


def settings_are_saved(visitor: Visitor, settings: Settings) -> None:
    """For the next start: a bad value is said, a good one written, what is above the file shown."""
    page, section = visitor.page, visitor.page.locator("#settings")
    page.get_by_role("link", name="Help").click()
    page.get_by_role("button", name="Settings for the next start").click()
    port, most = (
        section.get_by_label("Port", exact=True),
        section.get_by_label("LoRAs of one merge"),
    )
    expect(port).to_have_value(str(settings.port))
    expect(port).to_be_disabled()
    expect(section).to_contain_text("port (GRADIO_SERVER_PORT or --port)")
    save = section.get_by_role("button", name="Save")
    most.fill("17")
    save.click()
    expect(section.get_by_role("alert")).to_have_text(
        "max_files must be a whole number from 2 to 16, not '17'."
    )
    most.fill("8")
    section.get_by_label("fp32", exact=True).check()
    save.click()
    expect(section.get_by_role("status")).to_contain_text("Saved in settings.toml: precision, max")
    assert settings.file is not None
    assert settings.file.read_text("utf-8") == 'precision = "fp32"\nmax_files = 8\n'
    most.fill("")
    section.get_by_label("Base model").fill("me/pets")
    section.get_by_label("Base model").press("Enter")
    save.click()
    expect(most).to_have_value("6")
    expected = 'precision = "fp32"\nmax_files = 6\nbase = "me/pets"\n'
    assert settings.file.read_text("utf-8") == expected
    visitor.keep("settings-dark")
    page.set_viewport_size(PHONE)
    assert visitor.fits()
    visitor.keep("settings-phone-dark")
    accessible(visitor, "#settings")
