//! What an image is for: `os/architecture[/variant]`, and which of the images of an index that is.

use oci_spec::image::Descriptor;

/// A platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// Such as `linux`.
    pub os: String,
    /// Such as `amd64`.
    pub architecture: String,
    /// Such as `v8`; any where it is not said.
    pub variant: Option<String>,
    /// The user asked for it: an image without another to choose must be for it, too.
    pub is_demanded: bool,
}

/// What is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a platform is written `os/architecture[/variant]`, such as `linux/arm64`")]
pub struct PlatformError;

impl Platform {
    /// That of this machine.
    #[must_use]
    pub fn of_host() -> Platform {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None, is_demanded: false }
    }

    /// What was typed.
    ///
    /// # Errors
    /// [`PlatformError`]
    pub fn parse(text: &str) -> Result<Platform, PlatformError> {
        let mut parts = text.split('/').map(str::to_owned);
        let (Some(os), Some(architecture)) = (parts.next(), parts.next()) else { return Err(PlatformError) };
        let variant = parts.next();
        let parts = [Some(&os), Some(&architecture), variant.as_ref(), parts.next().as_ref()].map(|part| part.cloned());
        if parts[3].is_some() || parts.iter().flatten().any(String::is_empty) {
            return Err(PlatformError);
        }
        Ok(Platform { os, architecture, variant, is_demanded: true })
    }

    /// Whether an image for that is for this; one that says no variant has any.
    #[must_use]
    pub fn is_met_by(&self, os: &str, architecture: &str, variant: Option<&str>) -> bool {
        // arm64 has had only one variant, and is mostly named without it.
        let variant = variant.filter(|&variant| (architecture, variant) != ("arm64", "v8"));
        let wanted = self.variant.as_deref().filter(|&wanted| (architecture, wanted) != ("arm64", "v8"));
        self.os == os && self.architecture == architecture && (variant.is_none() || wanted.is_none() || wanted == variant)
    }

    /// Whether the image that a descriptor names may be for this.
    pub(super) fn may_be(&self, descriptor: &Descriptor) -> bool {
        descriptor.platform().as_ref().is_none_or(|platform| {
            let (os, architecture) = (platform.os().to_string(), platform.architecture().to_string());
            self.is_met_by(&os, &architecture, platform.variant().as_deref())
        })
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_met() {
        let arm = Platform::parse("linux/arm/v7").unwrap();
        assert_eq!(arm.to_string(), "linux/arm/v7");
        assert!(arm.is_met_by("linux", "arm", Some("v7")) && arm.is_met_by("linux", "arm", None));
        assert!(!arm.is_met_by("linux", "arm", Some("v6")) && !arm.is_met_by("linux", "arm64", None));
        let arm64 = Platform::parse("linux/arm64").unwrap();
        assert!(arm64.is_met_by("linux", "arm64", Some("v8")) && !arm64.is_met_by("windows", "arm64", None));
        for wrong in ["", "linux", "linux/", "/amd64", "linux/arm/", "linux/arm/v7/x"] {
            assert_eq!(Platform::parse(wrong), Err(PlatformError), "{wrong}");
        }
    }
}
