# The way a node gets its kubeconfig: read on the control machine and written on the node, through Vagrant's own ssh
# connections. It is shown nowhere and kept nowhere else.

require "tempfile"

module Podwire
  SOURCE = "/var/lib/podwire/api/admin.kubeconfig".freeze
  TARGET = "/etc/podwire/kubeconfig".freeze

  class NoCredentials < Vagrant::Errors::VagrantError
    def initialize(machine, control, problem)
      @text = "#{machine}: step 'credentials' failed: #{problem}\n" \
        "  What to do: vagrant up #{control}, then vagrant provision #{machine}."
      super()
    end

    def error_message
      @text
    end
  end

  class CredentialsPlugin < Vagrant.plugin("2")
    name "podwire_credentials"

    config(:podwire_credentials, :provisioner) { CredentialsConfig }
    provisioner(:podwire_credentials) { Credentials }
  end

  class CredentialsConfig < Vagrant.plugin("2", :config)
    attr_accessor :from, :patience
  end

  class Credentials < Vagrant.plugin("2", :provisioner)
    def provision
      @machine.ui.detail("step credentials: kubeconfig from #{config.from}")
      write(awaited)
    end

    private

    # Machines come up in parallel, and the control machine may be the last.
    def awaited
      deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + config.patience
      loop do
        found = read
        return found if found
        if Process.clock_gettime(Process::CLOCK_MONOTONIC) > deadline
          raise NoCredentials.new(@machine.name, config.from, "#{SOURCE} is not on #{config.from} after #{config.patience} s")
        end

        sleep 10
      end
    end

    # One command that waits there: a connection each time would keep an emulated machine from what it is awaited for.
    def read
      control = @machine.env.machine(config.from.to_sym, @machine.provider_name)
      return nil unless control.communicate.ready?

      text = +""
      waiting = "for _ in $(seq 60); do [ ! -s #{SOURCE} ] || exec cat #{SOURCE}; sleep 5; done; exit 1"
      status = control.communicate.sudo(waiting, error_check: false) do |stream, data|
        text << data if stream == :stdout
      end
      status.zero? && !text.empty? ? text : nil
    rescue Vagrant::Errors::VagrantError
      nil # not made, or still starting
    end

    def write(text)
      Tempfile.create("podwire") do |file|
        file.chmod(0o600)
        file.write(text)
        file.flush
        @machine.communicate.execute("rm -f /tmp/podwire-kubeconfig && install -m 600 /dev/null /tmp/podwire-kubeconfig")
        @machine.communicate.upload(file.path, "/tmp/podwire-kubeconfig")
      end
      @machine.communicate.sudo(
        "install -D -m 600 -o root -g root /tmp/podwire-kubeconfig #{TARGET} && rm -f /tmp/podwire-kubeconfig"
      )
    end
  end
end
