# What config.yaml says, checked: a mistake there is told before any machine is made.

require "ipaddr"
require "yaml"

module Podwire
  # What of the checkout is not podwire: it stays on this machine.
  NOT_PODWIRE = %w[.git .venv .cache .vagrant .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist __pycache__].freeze

  class BadSetting < Vagrant::Errors::VagrantError
    def initialize(file, key, value, remedy)
      @text = "#{file}: #{key}: #{value.inspect}: #{remedy}"
      super()
    end

    def error_message
      @text
    end
  end

  Machine = Struct.new(:name, :address, :role) do
    def control?
      role == :control
    end
  end

  class Settings
    CHECKS = {
      "box" => ["write the name of a Debian 12 box", ->(value) { value.is_a?(String) && !value.empty? }],
      "nodes" => ["write a number from 1 to 50", ->(value) { value.is_a?(Integer) && value.between?(1, 50) }],
      "memory" => ["write MiB, at least 512", ->(value) { value.is_a?(Integer) && value >= 512 }],
      "cpus" => ["write a number from 1", ->(value) { value.is_a?(Integer) && value >= 1 }],
      "network" => ["write an IPv4 network of at most /24, such as 192.168.56.0/24", ->(value) { network?(value) }],
      "mtu" => ["write a number from 1280 to 9000", ->(value) { value.is_a?(Integer) && value.between?(1280, 9000) }],
      "runtime" => ["write runc or crun", ->(value) { %w[runc crun].include?(value) }],
      "libvirt_driver" => ["write kvm or qemu", ->(value) { %w[kvm qemu].include?(value) }],
      "apt_proxy" => ["write http://host:port or nothing", ->(value) { value.is_a?(String) }],
      "pip_index" => ["write a URL or nothing", ->(value) { value.is_a?(String) }],
    }.freeze

    def self.load(directory)
      file = ENV["PODWIRE_VAGRANT_CONFIG"] || File.join(directory, "config.yaml")
      new(file, YAML.safe_load(File.read(file)) || {})
    end

    def self.network?(text)
      address, length = text.to_s.split("/")
      IPAddr.new(text).to_s == address && length.to_i.between?(16, 24)
    rescue IPAddr::Error
      false
    end

    def initialize(file, values)
      unknown = values.keys - CHECKS.keys
      raise BadSetting.new(file, unknown.first, values[unknown.first], "there is no such setting") if unknown.any?

      CHECKS.each do |key, (remedy, valid)|
        raise BadSetting.new(file, key, values[key], remedy) unless valid.call(values[key])
      end
      @values = values
    end

    (CHECKS.keys - %w[network]).each { |key| define_method(key) { @values[key] } }

    def netmask
      IPAddr.new("255.255.255.255").mask(@values["network"].split("/").last.to_i).to_s
    end

    def emulated?
      libvirt_driver == "qemu"
    end

    # Seconds that a machine may take to start, or for the control machine to serve.
    def patience
      emulated? ? 1800 : 300
    end

    # Seconds that a machine's ssh may take to answer. Vagrant gives up when that has passed, but tries again, five times,
    # when a minute has: so more than a minute makes it patient with a machine that has much else to do.
    def answer_timeout
      emulated? ? 120 : 15
    end

    def control
      Machine.new("control", address(10), :control)
    end

    def machines
      [control] + (1..nodes).map { |number| Machine.new("node#{number}", address(10 + number), :node) }
    end

    def tests
      Machine.new("tests", "", :tests)
    end

    # What the provisioning scripts are told.
    def environment(machine)
      {
        PODWIRE_MACHINE: machine.name,
        PODWIRE_ADDRESS: machine.address,
        PODWIRE_CONTROL: control.address,
        PODWIRE_HOSTS: machines.map { |each| "#{each.address} #{each.name}" }.join("\n"),
        PODWIRE_MTU: mtu.to_s,
        PODWIRE_RUNTIME: runtime,
        PODWIRE_APT_PROXY: apt_proxy,
        PODWIRE_PIP_INDEX: pip_index,
      }
    end

    private

    def address(number)
      (IPAddr.new(@values["network"]) | number).to_s
    end
  end
end
