# A formula for Homebrew. Untried: it was written where there is no Homebrew, and Rantai is tested on Linux alone.
# Beside it lies the source, made by: git archive --prefix=rantai-0.1.0/ -o packaging/homebrew/rantai-0.1.0.tar.gz HEAD
# Then: brew install --build-from-source ./packaging/homebrew/rantai.rb
class Rantai < Formula
  desc "Objects on an MQTT bus: broker, node and client in one program"
  url "file://#{__dir__}/rantai-0.1.0.tar.gz"
  version "0.1.0"
  license any_of: ["MIT", "Apache-2.0"]

  depends_on "rust" => :build

  def install
    system "cargo", "install", *std_cargo_args(path: "client/cli")
    generate_completions_from_executable(bin/"rantai", "completions")
    system bin/"rantai", "man", man1
    (etc/"rantai").mkpath
    (etc/"rantai").install "packaging/debian/broker.toml" unless (etc/"rantai/broker.toml").exist?
    inreplace etc/"rantai/broker.toml", "/var/lib/rantai", var/"lib/rantai", audit_result: false
    (var/"lib/rantai").mkpath
  end

  service do
    run [opt_bin/"rantai", "broker", "--config", etc/"rantai/broker.toml"]
    keep_alive crashed: true
    log_path var/"log/rantai.log"
    error_log_path var/"log/rantai.log"
  end

  test do
    assert_match "every result was right", shell_output("#{bin}/rantai demo")
  end
end
