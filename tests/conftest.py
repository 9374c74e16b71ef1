"""What every test may use: the fixture `emulate`, a vendor's emulator on a free port."""

pytest_plugins = ["beam_moderation.emulator.pytest_plugin"]
