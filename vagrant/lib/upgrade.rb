# `vagrant provision` upgrades in place: it first brings the machine's copy of the checkout up to date, as `vagrant up`
# does.

module Podwire
  class UpgradePlugin < Vagrant.plugin("2")
    name "podwire_upgrade"

    action_hook(:podwire_upgrade, :machine_action_provision) do |hook|
      hook.before(Vagrant::Action::Builtin::Provision, Vagrant::Action::Builtin::SyncedFolders)
    end
  end
end
