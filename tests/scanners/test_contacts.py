import pytest

from beam_moderation.scanners import contacts


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("Call +1 (415) 555-2671 now", "phone"),
        ("Call+14155552671", "phone"),
        ("(415) 555-2671", "phone"),
        ("１３８００１３８０００", "phone"),  # noqa: RUF001
        ("客服 138-0013-8000", "phone"),
        ("热线400-820-8820", "phone"),
        ("010-62345678", "phone"),
        ("电话：62345678", "phone"),  # noqa: RUF001
        ("Tel. 030 1234567", "phone"),
        ("mail to Sales.Team@Shop-24.example.com!", "email"),
        ("info @ shop.com", "email"),
        ("加微信abc_12345", "wechat"),
        ("WeChat: lucky888", "wechat"),
        ("vx:freegirl", "wechat"),
        ("加V a1234567", "wechat"),
        ("QQ 123456789", "qq"),
        ("qq群：98765432", "qq"),  # noqa: RUF001
        ("Telegram @best_offers", "telegram"),
        ("join t.me/best_offers", "telegram"),
        ("WhatsApp +44 7700 900123", "whatsapp"),
        ("wa.me/447700900123", "whatsapp"),
        ("LINE ID: girl.99", "messenger"),
    ],
)
def test_contact_data_is_found(line, kind):
    found = [match for match in contacts.contacts(line) if match.label == "contact"]
    assert kind in [match.kind for match in found]


@pytest.mark.parametrize(
    "line",
    [
        "https://example.org/a?b=1",
        "http : // cheap.example.com",
        "WWW.Cheap-Loans.Example.Com",
        "visit cheap-loans.shop today",
        "访问shop88.cn领取",
    ],
)
def test_links_are_found(line):
    assert "link" in [match.label for match in contacts.contacts(line)]


@pytest.mark.parametrize(
    "line",
    [
        "Anniversary sale 2024-01-15 until 2024-02-29",
        "Total 1,299.00 EUR, order 20240115",
        "12:30 - 14:45",
        "ISBN 978-3-16-148410-0",
        "3.14159265358979",
        "We chat over coffee about payment",
        "WeChat payment accepted",
        "Grand Hotel 1234567",
        "the finish line identifies winners",
        "Please call me. In the morning",
        "v2.0.1 released",
        "Size 10.5 x 20.25 cm",
        "Top 10 of 2024",
        "192.168.100.200",
        "images/photo.jpeg",
    ],
)
def test_ordinary_lines_hold_nothing(line):
    assert list(contacts.contacts(line)) == []


@pytest.mark.parametrize(
    ("line", "labels"),
    [
        ("FREE MONEY today", ["spam"]),
        ("get Free  money!", ["spam"]),
        ("freemoney", ["spam"]),
        ("carefree money", []),
        ("a class act", []),
        ("what an ass", ["abuse"]),
        ("我要代 开 发 票", ["spam"]),
        ("Ｆｒｅｅ Ｍｏｎｅｙ", ["spam"]),  # noqa: RUF001
    ],
)
def test_listed_words_are_found_where_they_stand_by_themselves(line, labels):
    words = contacts.Words({"spam": ["free money", "代开发票"], "abuse": ["ass"]})
    assert [match.label for match in words.matches(line)] == labels
